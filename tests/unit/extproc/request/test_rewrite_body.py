"""The model's name in a body, and nothing else."""

import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.errors import Refusal
from extproc.parsers import parse
from extproc.request.rewrite_body import MAX_MEMBERS, names_models, position, put_model, replace_model

NEW = 'new "name" \\ é'
ENCODED = '"new \\"name\\" \\\\ é"'.encode()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"model":"m"}', b'{"model":%s}'),
        (b' {\n"model"\t:\r"m" , "x":1}\n', b' {\n"model"\t:\r%s , "x":1}\n'),
        (b'{"x":{"model":"m"},"model":"m","y":[{"model":"m"}]}', b'{"x":{"model":"m"},"model":%s,"y":[{"model":"m"}]}'),
        (b'{"text":"\\"model\\":\\"m\\"","model":"a\\"b"}', b'{"text":"\\"model\\":\\"m\\"","model":%s}'),
        (b'{"\\u006dod\\u0065\\u006C":"m"}', b'{"\\u006dod\\u0065\\u006C":%s}'),
        (b'{"model":"a","x":1,"model" : "b"}', b'{"model":%s,"x":1,"model" : %s}'),
        (b'{"model":1,"\\u006Dodel":null , "model":{"model":2}}', b'{"model":%s,"\\u006Dodel":%s , "model":%s}'),
        (b'{"seed":1.10,"n":123456789012345678901234567890,"model":"m"}', None),
        (b'{"Model":"m","model ":"m","xmodel":"m"}', b'{"Model":"m","model ":"m","xmodel":"m"}'),
        (b"{}", b"{}"),
        (b'{"model"' + b" " * 500 + b":" + b"\n" * 500 + b'"m"}', None),
    ],
)  # fmt: skip
def test_only_the_value_changes(before: bytes, after: bytes | None) -> None:
    expected = before.replace(b'"m"', ENCODED) if after is None else after.replace(b"%s", ENCODED)
    assert replace_model(before, NEW) == expected


def test_more_members_than_anybody_means_are_refused() -> None:
    def body(count: int) -> bytes:
        return b'{"x":0' + b',"model":"m"' * count + b"}"

    assert replace_model(body(MAX_MEMBERS), "n") == body(MAX_MEMBERS).replace(b'"m"', b'"n"')
    with pytest.raises(Refusal) as refused:
        replace_model(body(MAX_MEMBERS + 1), "n")
    assert (refused.value.status, refused.value.param) == (400, "model")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"{}", b'{"model":%s}'),
        (b" { \n} ", b' {"model":%s \n} '),
        (b'{"x":1}', b'{"model":%s,"x":1}'),
        (b'\n{ "x":{"model":"m"}}', b'\n{"model":%s, "x":{"model":"m"}}'),
        (b'{"x":1,"model":"m"}', b'{"x":1,"model":%s}'),
        (b'{"model":"a","model":"b"}', b'{"model":%s,"model":%s}'),
    ],
)  # fmt: skip
def test_a_name_is_put_where_there_is_none(before: bytes, after: bytes) -> None:
    text = put_model(before, NEW)
    assert text == after.replace(b"%s", ENCODED)
    assert json.loads(text)["model"] == NEW


@pytest.mark.parametrize(
    ("text", "several"),
    [
        (b"{}", False),
        (b'{"model":"m"}', False),
        (b'{"x":{"model":"n"},"y":"\\"model\\":","model":"m"}', False),
        (b'{"x":"\\u00e9","model":"m"}', False),
        (b'{"x":{"model":"n"},"y":{"model":"m"}}', False),
        (b'{"model":"n","model":"m"}', True),
        (b'{"\\u006dodel":"n" , "x":1,"model":"m"}', True),
    ],
)
def test_names_that_are_given_twice_are_seen(text: bytes, several: bool) -> None:
    assert names_models(text) is several


def test_the_time_grows_with_the_members_and_no_faster() -> None:
    """Ten times as many take ten times as long, not a hundred times: there is no pass for each."""

    def least(count: int) -> float:
        text, found = b"{" + b'"model":"m",' * count + b'"x":1}', []
        for _ in range(3):
            started = time.process_time()
            with pytest.raises(Refusal):
                replace_model(text, "n")
            found.append(time.process_time() - started)
        return min(found)

    assert least(200_000) < 30 * least(20_000)


_space = st.text(" \t\r\n", max_size=3)


@st.composite
def spelling(draw: st.DrawFn, text: str) -> str:
    """A JSON string of `text`, each character plain or escaped."""
    return '"' + "".join(
        json.dumps(char)[1:-1] if draw(st.booleans()) else f"\\u{ord(char):04{draw(st.sampled_from('xX'))}}" for char in text
    ) + '"'  # fmt: skip


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8"), max_size=6)
    | st.sampled_from(['"model":"m"', "model", "\\"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["model", "a", "b"]), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@st.composite
def documents(draw: st.DrawFn) -> str:
    """An object as JSON in any spelling; its members named `model` are marked by `\\0`."""
    parts = []
    names = st.lists(st.sampled_from(["model", "Model", "mode", "messages", "x"]), max_size=6)
    for name in draw(names.filter(lambda some: some.count("model") <= MAX_MEMBERS)):
        key = draw(spelling(name))
        value = json.dumps(draw(_json), ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1])))
        value = f"\0{value}\0" if name == "model" else value
        parts.append(f"{draw(_space)}{key}{draw(_space)}:{draw(_space)}{value}{draw(_space)}")
    return draw(_space) + "{" + ",".join(parts) + "}" + draw(_space)


@given(documents(), st.text(st.characters(codec="utf-8"), min_size=1))
def test_against_the_standard_library(document: str, name: str) -> None:
    before = document.replace("\0", "").encode()
    after = replace_model(before, name)
    pieces = document.split("\0")
    # The bytes that are not a value of `model` are as they were, and each such value is the new name.
    expected = "".join(json.dumps(name, ensure_ascii=False) if place % 2 else one for place, one in enumerate(pieces))
    assert json.loads(after) == json.loads(expected)
    plain: list[bytes] = [one.encode() for place, one in enumerate(pieces) if place % 2 == 0]
    rest = after
    for one in plain[:-1]:
        assert rest.startswith(one)
        value, length = _string(rest[len(one) :].decode())
        assert value == name
        rest = rest[len(one) + length :]
    assert rest == plain[-1]


def _string(text: str) -> tuple[Any, int]:
    """The JSON value that `text` begins with, and its length in bytes."""
    value, end = json.JSONDecoder().raw_decode(text)
    return value, len(text[:end].encode())


@given(documents())
def test_what_the_parser_reads_is_the_new_name(document: str) -> None:
    before = document.replace("\0", "").encode()
    try:
        parsed = parse("/v1/rerank", before)
    except Refusal:
        return
    if parsed.model:
        assert parse("/v1/rerank", replace_model(before, NEW)).model == NEW


@pytest.mark.parametrize("copy", [b'"m"', b'"another"', b"7"])
def test_a_value_that_is_no_view_of_the_body_replaces_nothing(copy: bytes) -> None:
    with pytest.raises(RuntimeError, match="not a view"):
        position(b'{"model":"m"}', msgspec.Raw(copy))
