"""The beginning of any JSON is JSON, and costs no more than what was asked for."""

import json
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.parsers import parse
from extproc.parsers.head import MAX_VALUES, VALUES, WINDOW, head, is_short, values_for

texts = st.text(st.sampled_from('a"\\\n\u00e9\u6f22\U0001f600\x1e{}[],: '), max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=30,
)
spelt = st.tuples(values, st.booleans(), st.sampled_from([None, 1]))


def begins(part: Any, whole: Any, *, last: bool = True) -> bool:
    """Whether `part` is what is left of `whole` where it is cut off somewhere."""
    if not last or type(part) is not type(whole) or not isinstance(part, str | list | dict):
        return bool(part == whole) and type(part) is type(whole)
    if isinstance(part, str):
        return bool(whole.startswith(part))
    items, all_items = (list(one.items()) if isinstance(one, dict) else list(enumerate(one)) for one in (part, whole))
    return len(items) <= len(all_items) and all(
        key == other and begins(item, whole_item, last=at == len(items) - 1)
        for at, ((key, item), (other, whole_item)) in enumerate(zip(items, all_items, strict=False))
    )


@settings(max_examples=400)
@given(spelt, st.integers(0, 80), st.integers(0, 40))
def test_the_beginning_of_any_json_is_json(one: tuple[Any, bool, int | None], window: int, limit: int) -> None:
    value, as_ascii, indent = one
    text = json.dumps(value, ensure_ascii=as_ascii, indent=indent).encode("utf-8", "surrogatepass")
    part, count = head(text, window, limit)
    assert len(part) <= window + text.count(b"{") + text.count(b"[") + 1
    assert count <= limit + 1
    if part:
        assert begins(msgspec.json.decode(part), msgspec.json.decode(text))
    else:
        assert window < len(text) or limit < text.count(b"[") + text.count(b"{") + text.count(b",")
    if len(text) <= window and text.count(b"[") + text.count(b"{") + text.count(b",") <= limit:
        assert part == text


@given(st.lists(st.integers(0, 10**6), min_size=1), st.integers(0, 60))
def test_token_ids(ids: list[int], window: int) -> None:
    text = json.dumps(ids).encode()
    part, count = head(text, window, 0, ids=True)
    if window:
        assert count == 1
        assert msgspec.json.decode(part) == ids[: len(msgspec.json.decode(part))]
        assert (part == text) == (window >= len(text))


def test_a_long_text_is_cut_between_characters() -> None:
    for text in ("é漢😀" * 10, '\\"\n' * 10):
        for as_ascii in (True, False):
            whole = json.dumps([text], ensure_ascii=as_ascii).encode()
            seen = set()
            for window in range(3, len(whole)):
                (part,) = msgspec.json.decode(head(whole, window, 10)[0])
                assert text.startswith(part)
                seen.add(part)
            assert len(seen) >= len(text)


def test_what_is_not_utf8_is_refused_where_it_is_read() -> None:
    with pytest.raises(UnicodeDecodeError):
        head(b'["\xff' + b"x" * 100 + b'"]', 50, 10)


def test_is_short() -> None:
    assert is_short(b"[" + b"1," * (VALUES - 1) + b"1]")
    assert not is_short(b"[" + b"1," * (2 * VALUES) + b"1]")
    assert is_short(b'"' + b"x" * (WINDOW - 2) + b'"')
    assert not is_short(b'"' + b"x" * WINDOW + b'"')
    assert values_for(1 << 30) == MAX_VALUES


# What the reading of a body costs, in lines of Python that run and in objects that are made.

PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages", "/rerank")
FIELDS = ("messages", "prompt", "input", "tools", "system", "instructions", "text")
#: Lines for each value that may be read, and for any body.
LINES_A_VALUE, LINES = 40, 3000
SIZE = 300_000

pieces = st.sampled_from(
    [
        b'{"a":0}', b"{}", b"[]", b"1", b"1.5", b'"x"', b"null", b"[[[[]]]]", b"[" * 100 + b"]" * 100, b'{"role":"user","content":"hi"}',
        b'{"type":"text","text":"hi"}', b'{"type":"image_url","image_url":{"url":"x"}}', b'{"type":"function_call"}',
        b'{"type":"tool_result","content":[{}]}', b'{"cache_control":1}', b"1234567890" * 30, b'"\\u001e\\u6f22"',
    ]
)  # fmt: skip
wraps = st.sampled_from(
    [b"[%s]", b'{"role":"user","content":[%s]}', b'[{"role":"user","content":[%s]}]', b'[{"content":{"x":[%s]}}]',
     b'[{"role":"user","tool_calls":[%s]}]', b'[{"type":"tool_result","content":[%s]}]']
)  # fmt: skip


def lines_of(call: Callable[[], object]) -> int:
    """Lines of this project's that run in a call."""
    count = 0

    def local(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return local

    def trace(frame: FrameType, _event: str, _argument: object) -> Any:
        return local if "extproc/parsers" in frame.f_code.co_filename else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


@settings(max_examples=60)
@given(pieces, wraps, st.sampled_from(FIELDS), st.sampled_from(PATHS), st.booleans())
def test_what_a_body_costs_is_bounded_by_what_is_read_of_it(
    piece: bytes, wrap: bytes, field: str, path: str, keys: bool
) -> None:
    items = [piece] * (SIZE // (len(piece) + 1))
    if keys:
        items = [b"{%s}" % b",".join(b'"k%d":%s' % (number, item) for number, item in enumerate(items))]
    body = b'{"model":"m","%s":%s}' % (field.encode(), wrap % b",".join(items))
    assert lines_of(lambda: parse(path, body)) <= LINES + LINES_A_VALUE * values_for(len(body))
