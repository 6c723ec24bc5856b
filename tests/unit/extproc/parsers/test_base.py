"""What every parser refuses, and what none refuses. One suite over all of them."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.errors import Refusal
from extproc.parsers import Api, ParsedRequest, parse
from extproc.parsers.base import MAX_BARE_VALUE, MAX_MODEL, UNCOUNTED_BODY, Envelope, Parser
from extproc.parsers.head import MAX_VALUES, WINDOW

FEW = settings(max_examples=40)  # one for each API

PATHS = {
    Api.OPENAI_CHAT: "/v1/chat/completions",
    Api.OPENAI_COMPLETIONS: "/v1/completions",
    Api.OPENAI_EMBEDDINGS: "/v1/embeddings",
    Api.OPENAI_RESPONSES: "/v1/responses",
    Api.ANTHROPIC_MESSAGES: "/v1/messages",
    Api.GENERIC: "/pooling",
}
CHAT = PATHS[Api.OPENAI_CHAT]
every_api = pytest.mark.parametrize("path", PATHS.values(), ids=[api.value for api in PATHS])


def refused(path: str, body: bytes) -> Refusal:
    with pytest.raises(Refusal) as caught:
        parse(path, body)
    refusal = caught.value
    assert refusal.status == 400
    assert refusal.type == "invalid_request_error"
    # No words of the JSON library, no Python.
    for word in ("malformed", "byte ", "$", "codec", "recursion", "truncated", "None", "dict", "msgspec"):
        assert word not in refusal.message
    return refusal


def body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


@every_api
@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b'{"model":"m"',
        b'{"model":"m"}}',
        b'{"model":"m",}',
        b"{model:'m'}",
        b'{"model":"m","seed":01}',
        b'{"model":"m","messages":"\x01"}',
        b"\xef\xbb\xbf",
        '{"model":"m"'.encode("utf-16"),
    ],
)
def test_bad_json(path: str, text: bytes) -> None:
    refusal = refused(path, text)
    assert (refusal.message, refusal.code, refusal.param) == (
        "The request body is not valid JSON.",
        "invalid_json",
        None,
    )
    assert refusal.detail


@every_api
@pytest.mark.parametrize("field", ["model", "messages", "prompt", "input", "x"])
@pytest.mark.parametrize("bracket", [b"[", b'{"a":'])
def test_nesting(path: str, field: str, bracket: bytes) -> None:
    refusal = refused(path, b'{"model":"m","' + field.encode() + b'":' + bracket * 100_000)
    assert (refusal.message, refusal.code) == ("The request body is nested too deeply.", "invalid_json")


@every_api
def test_every_depth_is_parsed_or_refused(path: str) -> None:
    # Walking takes more of the stack than decoding: between the two limits the prompt is empty.
    outcomes = set()
    for depth in (*range(100, 1100, 7), 100_000):
        nested = b"[" * depth + b"]" * depth
        text = b'{"model":"m","messages":[%s],"input":[%s],"tools":%s,"prompt":%s}' % (nested, nested, nested, nested)
        try:
            outcomes.add(parse(path, text).model)
        except Refusal as refusal:
            outcomes.add(refusal.code or "")
    assert outcomes == {"m", "invalid_json"}


def test_a_prompt_of_any_depth_is_digested() -> None:
    """Until it is nested more deeply than can be decoded."""
    lengths = set()
    for depth in range(100, 3000):
        nested = b"[" * depth + b"]" * depth
        try:
            text = b'{"model":"m","messages":[{"role":"user","content":[%s]}]}' % nested
            lengths.add(len(parse(CHAT, text).prompt.text()))
        except Refusal as refusal:
            assert refusal.message == "The request body is nested too deeply."
            break
    else:
        raise AssertionError("no limit")
    assert len(lengths) == 1


def test_a_prompt_too_deep_to_walk_is_empty() -> None:
    def write(_body: Envelope, out: list[str]) -> None:
        out.append("x")
        raise RecursionError

    assert Parser(Api.GENERIC, Envelope, write)(b'{"model":"m"}').prompt.length == 0


@every_api
@pytest.mark.parametrize("text", [b"[]", b'"model"', b"3", b"null", b" [ ]", b"true"])
def test_not_an_object(path: str, text: bytes) -> None:
    refusal = refused(path, text)
    assert (refusal.message, refusal.code) == ("The request body must be a JSON object.", "invalid_type")


@every_api
@pytest.mark.parametrize(
    ("model", "message", "code"),
    [
        ("m" * (MAX_MODEL + 1), "`model` must not be longer than 1024 characters.", "invalid_value"),
        (3, "`model` must be a string, not a number.", "invalid_type"),
        (0.5, "`model` must be a string, not a number.", "invalid_type"),
        (False, "`model` must be a string, not a boolean.", "invalid_type"),
        ([], "`model` must be a string, not an array.", "invalid_type"),
        (["m"], "`model` must be a string, not an array.", "invalid_type"),
        ({"id": "m"}, "`model` must be a string, not an object.", "invalid_type"),
    ],
)
def test_wrong_model(path: str, model: object, message: str, code: str) -> None:
    refusal = refused(path, body(model=model))
    assert (refusal.message, refusal.code, refusal.param) == (message, code, "model")


@every_api
def test_the_longest_model(path: str) -> None:
    assert parse(path, body(model="é" * MAX_MODEL)).model == "é" * MAX_MODEL


@every_api
@pytest.mark.parametrize("fields", [{}, {"model": None}, {"model": ""}, {"model": " \t\n"}])
def test_missing_model(path: str, fields: dict[str, Any]) -> None:
    """Engines take the model that they have; whether that will do is for the routes to say."""
    assert parse(path, body(**fields)).model == ""


@every_api
@pytest.mark.parametrize(
    ("stream", "read"),
    [(1, True), (1.0, True), ("true", True), ("YES", True), ("on", True), (0, False), ("no", False), ("", False),
     (2, False), ("maybe", False), ({}, False), ([True], False)],
)  # fmt: skip
def test_stream_as_pydantic_reads_it(path: str, stream: object, read: bool) -> None:
    """What it refuses is the engine's to refuse."""
    assert parse(path, body(model="m", stream=stream)).stream is read


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "tool_calls", "name", "output", "cache_control", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)
#: What Python's reader takes, and strict JSON does not.
LENIENT = [
    b'\xef\xbb\xbf{"model":"m","messages":[{"role":"user","content":"hi"}]}',
    *['{"model":"m","messages":[{"role":"user","content":"hi"}]}'.encode(encoding)
      for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "utf-8-sig")],
    b'{"model":"m","temperature":NaN,"messages":[{"role":"user","content":"hi"}]}',
    b'{"model":"m","temperature":-Infinity,"x":[Infinity],"messages":[{"role":"user","content":"hi"}]}',
    b'{"model":"n","model":"m","temperature":NaN,"messages":[{"role":"user","content":"hi"}]}',
    '{"model":"x","temperature":NaN,"\\u006dodel":"m","messages":[{"role":"user","content":"hi"}]}'.encode("utf-16"),
    # A half of a surrogate pair, where it is read and where it is not.
    b'{"model":"m","messages":[{"role":"user","content":"hi\\ud83d"}]}',
    b'{"model":"m","user":"\\ud83d","messages":[{"role":"user","content":"hi"}]}',
]  # fmt: skip


@every_api
@pytest.mark.parametrize("text", LENIENT)
def test_what_engines_read_is_read_alike(path: str, text: bytes) -> None:
    parsed = parse(path, text)
    assert parsed.model == json.loads(text)["model"] == "m"
    parsed.prompt.text().encode()
    if path == CHAT:
        assert "hi" in parsed.prompt.text()


@every_api
@settings(max_examples=200)
@given(
    text=st.dictionaries(st.sampled_from(["model", "x", "stream"]), json_values | st.floats() | st.text()).map(
        json.dumps
    ),
    twice=st.text() | st.none(),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32-be"]),
)
def test_the_model_is_the_one_that_pythons_json_reads(path: str, text: str, twice: str | None, encoding: str) -> None:
    """A second reader with another opinion is the classic way round a check."""
    if twice is not None and text != "{}":
        text = f'{text[:-1]}, "model": {json.dumps(twice)}}}'
    data = text.encode(encoding)
    try:
        parsed = parse(path, data)
    except Refusal as refusal:
        model = json.loads(data).get("model")
        assert refusal.param == "model"
        assert model is not None
        assert type(model) is not str
        return
    model = json.loads(data).get("model")
    if type(model) is float:
        # NaN and infinities are no JSON: null to those who only look.
        assert (math.isfinite(model), parsed.model) == (False, "")
        return
    assert parsed.model == ("" if model is None or model.isspace() else model.encode("utf-8", "replace").decode())


@every_api
def test_stream(path: str) -> None:
    assert parse(path, body(model="m", stream=True)).stream is True
    assert parse(path, body(model="m", stream=False)).stream is False
    assert parse(path, body(model="m", stream=None)).stream is False
    assert parse(path, body(model="m")).stream is False


@every_api
def test_model_as_it_came(path: str) -> None:
    assert parse(path, body(model=" Qwen/Qwen3-8B:ü\n")).model == " Qwen/Qwen3-8B:ü\n"


@every_api
def test_the_last_of_duplicate_keys_counts_however_spelled(path: str) -> None:
    # As in the engines: otherwise they would serve another model than the one that was routed (and allowed).
    assert parse(path, b'{"model":"a","model":"b"}').model == "b"
    assert parse(path, b'{"model":"a","\\u006dodel":"b"}').model == "b"
    assert json.loads(b'{"model":"a","\\u006dodel":"b"}') == {"model": "b"}
    assert parse(path, b'{"model":"a","model":""}').model == ""


@every_api
def test_invalid_utf8(path: str) -> None:
    refusal = refused(path, b'{"model":"m\xff"}')
    assert (refusal.message, refusal.code) == ("The request body is not valid UTF-8.", "invalid_json")
    # Where nobody here looks, it is left to the engine to refuse it.
    assert parse(path, b'{"model":"m","user":"\xff"}').model == "m"


def test_invalid_utf8_in_the_prompt() -> None:
    refusal = refused(CHAT, b'{"model":"m","messages":[{"role":"user","content":"\xc3\x28"}]}')
    assert refusal.message == "The request body is not valid UTF-8."


@every_api
@pytest.mark.parametrize("number", [b"1e999", b"1" * 5000])
def test_numbers_out_of_range_are_the_engines_business(path: str, number: bytes) -> None:
    text = b'{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[%s],"input":%s,"prompt":%s}'
    parsed = parse(path, text % (number, number, number))
    assert (parsed.model, parsed.stream) == ("m", True)


@every_api
def test_numbers_out_of_range_where_they_matter(path: str) -> None:
    refusal = refused(path, b'{"model":1e999}')
    assert (refusal.message, refusal.code) == ("The request body has a number that is out of range.", "invalid_value")
    refused(path, b'{"model":"m","stream":1e999}')


@every_api
def test_large_integers_are_no_trouble(path: str) -> None:
    number = "9" * 40
    text = f'{{"model":"m","messages":[{number}],"tools":[{number}],"prompt":[{number}],"input":[{number}]}}'
    assert parse(path, text.encode()).prompt.length > 40


@every_api
def test_20_mib(path: str) -> None:
    text = "the quick brown fox. " * (1 << 20)
    content = [{"role": "user", "content": text}]
    parsed = parse(path, body(model="m", messages=content, prompt=text, input=text))
    assert len(text) <= parsed.prompt.length <= 3 * len(text) + 100
    assert text[:1000] in parsed.prompt.text()[:1100]


@pytest.mark.parametrize(
    "piece", [b'{"a":0},', b"[null],", b'"a",', b"1.5,", b"{},", b"[[]],", b'{"type":"text","text":"hi"},']
)
def test_of_bodies_of_many_values_the_beginning_is_read(piece: bytes) -> None:
    text = b'{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":['
    several, many = [parse(CHAT, text + piece * count + b"0]}]}") for count in (100, 10 * MAX_VALUES)]
    assert (many.model, many.stream) == ("m", True)
    assert many.prompt.text().startswith(several.prompt.text()[:-100])
    assert len(many.prompt.text()) < 100 * MAX_VALUES < many.prompt.length * 100


def test_two_long_prompts_that_begin_alike_have_texts_that_begin_alike() -> None:
    def chat(size: int, *after: dict[str, Any]) -> bytes:
        messages = [{"role": "system", "content": "s" * 100}, {"role": "user", "content": 'é"\n\\' * size}, *after]
        return body(model="m", tools=[{"name": "t"}], messages=messages)

    first = parse(CHAT, chat(WINDOW // 6)).prompt
    second = parse(
        CHAT, chat(WINDOW // 6, {"role": "assistant", "content": "x"}, {"role": "user", "content": "y"})
    ).prompt
    longer = parse(CHAT, chat(WINDOW)).prompt
    assert second.text().startswith(first.text())
    assert longer.text().startswith(first.text()[: WINDOW // 3])
    assert longer.length > 4 * first.length


def test_token_ids_are_read_by_their_bytes() -> None:
    ids = list(range(100_000, 100_000 + MAX_VALUES * 5))
    assert parse("/v1/completions", body(model="m", prompt=ids)).prompt.text().count(",") == len(ids)
    many = parse("/v1/completions", body(model="m", prompt=ids * 10)).prompt
    assert len(ids) < many.text().count(",") < WINDOW
    assert many.length > 7 * 10 * len(ids) - 100


def test_such_bodies_are_checked_like_all_others() -> None:
    many = b"[" + b"[    ]," * 250_000 + b"[]]"
    assert len(many) > UNCOUNTED_BODY
    assert parse(CHAT, b'{"messages":' + many + b"}").model == ""
    assert refused(CHAT, b'{"model":' + many + b"}").message == "`model` must be a string, not an array."
    assert parse(CHAT, b'{"model":"m","stream":{"a":' + many + b"}}").stream is False
    assert refused(CHAT, b'{"model":{"a":1},"messages":' + many + b"}").code == "invalid_type"
    assert refused(CHAT, many).message == "The request body must be a JSON object."
    assert refused(CHAT, b'{"model":"m","messages":' + many).code == "invalid_json"
    long = "é" * MAX_MODEL
    assert len(long.encode()) > MAX_BARE_VALUE
    assert parse(CHAT, b'{"model":"' + long.encode() + b'","messages":' + many + b"}").model == long


fields = st.sampled_from(
    ["messages", "prompt", "input", "tools", "system", "instructions", "text", "stream_options", "user"]
)


@every_api
@FEW
@given(odd=st.dictionaries(fields, json_values))
def test_any_shape_of_a_prompt_is_let_through(path: str, odd: dict[str, Any]) -> None:
    parsed = parse(path, body(model="m", **odd))
    assert isinstance(parsed, ParsedRequest)
    # Whatever was found can be hashed.
    assert len(parsed.prompt.text().encode("utf-8", "surrogatepass")) >= parsed.prompt.length


@every_api
@FEW
@given(text=st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()))
def test_garbage_is_parsed_or_refused(path: str, text: bytes) -> None:
    with suppress(Refusal):
        parse(path, text)


@every_api
@FEW
@given(prompt=json_values, cut=st.integers(0, 200))
def test_truncated_bodies_are_refused(path: str, prompt: Any, cut: int) -> None:
    whole = body(model="m", messages=prompt, input=prompt)
    assert refused(path, whole[: min(cut, len(whole) - 1)]).code == "invalid_json"


@every_api
@pytest.mark.parametrize(
    ("text", "message", "code"),
    [
        ("[1]", "The request body must be a JSON object.", "invalid_type"),
        ('{"model":1e999}', "The request body has a number that is out of range.", "invalid_value"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_encoding_changes_no_refusal(path: str, text: str, message: str, code: str, encoding: str) -> None:
    refusal = refused(path, text.encode(encoding))
    assert (refusal.message, refusal.code) == (message, code)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_byte_order_mark_changes_no_refusal_of_invalid_utf8(mark: bytes) -> None:
    refusal = refused(CHAT, mark + b'{"model":"m","messages":[{"role":"user","content":"\xff"}]}')
    assert (refusal.message, refusal.code) == ("The request body is not valid UTF-8.", "invalid_json")
