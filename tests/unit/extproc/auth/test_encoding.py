import base64
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.auth.encoding import ALPHABET, MAX_DEPTH, base64url, json_object


@given(st.binary(max_size=64))
def test_base64url_reads_what_others_write(data: bytes) -> None:
    assert base64url(base64.urlsafe_b64encode(data).rstrip(b"=")) == data


@given(st.lists(st.sampled_from(ALPHABET), max_size=24).map(bytes))
def test_base64url_has_one_text_for_one_value(text: bytes) -> None:
    try:
        data = base64url(text)
    except ValueError:
        return
    assert base64.urlsafe_b64encode(data).rstrip(b"=") == text


@pytest.mark.parametrize("text", [b"A", b"AAAAA", b"AB", b"AAB", b"-_9"])
def test_base64url_that_is_not_canonical_is_an_error(text: bytes) -> None:
    with pytest.raises(ValueError, match="canonical"):
        base64url(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, max_size=4), st.booleans())
def test_json_reads_what_others_write(value: dict[str, object], ascii_only: bool) -> None:
    assert json_object(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.binary(max_size=64) | st.text(max_size=64).map(str.encode))
def test_json_gives_an_object_or_a_value_error(data: bytes) -> None:
    try:
        value = json_object(data)
    except ValueError:
        return
    assert isinstance(value, dict)


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[]", '"a"', "1", "{", "{} {}", "{'a':1}", '{"a":1,}', '{"a":NaN}', '{"a":-Infinity}',
        '{"a":1e999}',
        '{"a":1,"a":1}', '{"a":{"b":1,"b":2}}', '{"a":1,"\\u0061":2}', '{"a":"\\ud800"}', '{"\\udc00":1}', "\ufeff{}",
        '{"a":"\n"}', '{"a":' + "[" * 100_000 + "]" * 100_000 + "}", '{"a":' + "9" * 5000 + "}",
    ],
    ids=lambda text: text[:24],
)  # fmt: skip
def test_json_that_two_parsers_could_read_differently_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        json_object(text.encode())


def nested(levels: int, inside: str = "") -> bytes:
    """An object and `levels - 1` lists."""
    return f'{{"a":{"[" * (levels - 1)}{inside}{"]" * (levels - 1)}}}'.encode()


def test_nesting_has_a_limit_of_its_own() -> None:
    assert json_object(nested(MAX_DEPTH))
    for data in (nested(MAX_DEPTH + 1), nested(MAX_DEPTH, "{}"), nested(MAX_DEPTH, '"[", {}'), nested(2500)):
        with pytest.raises(ValueError, match="nested too deeply"):
            json_object(data)


def test_brackets_that_do_not_nest_are_no_depth() -> None:
    strings = ["[" * 99, '\\"[[[' * 20, "\\\\", "]{"]
    assert json_object(json.dumps({"a": strings, "b": [{}, []] * 50}).encode())["a"] == strings


@given(st.text('[]{}"\\,:a', max_size=200))
def test_brackets_of_any_kind_give_an_object_or_a_value_error(text: str) -> None:
    try:
        json_object(f'{{"a":{text}}}'.encode())
    except ValueError:
        return


def test_json_is_utf_8() -> None:
    for data in (b'{"a":"\xff"}', '{"a":1}'.encode("utf-16"), '{"a":1}'.encode("utf-32")):
        with pytest.raises(ValueError, match=r"."):
            json_object(data)


def test_a_pair_of_escaped_surrogates_is_text() -> None:
    assert json_object(b'{"a":"\\ud83d\\ude00"}') == {"a": "\U0001f600"}


def test_numbers_up_to_the_range_of_a_float_are_read() -> None:
    value = json_object(b'{"a":1.5e308,"b":-0.0,"c":123456789012345678901234567890}')
    assert value["a"] == 1.5e308
    assert math.copysign(1.0, value["b"]) == -1.0  # type: ignore[arg-type]  # it is a float
    assert value["c"] == 123456789012345678901234567890
