from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.outcome.usage.unary import KEPT, UnaryBody

MANY = settings(max_examples=150)

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}
SMALL = 400


def read(body: bytes, size: int = 0, kept: int = KEPT) -> object:
    unary = UnaryBody(kept)
    step = size or len(body) or 1
    for at in range(0, len(body), step):
        unary.feed(body[at : at + step])
        assert len(unary._head) + len(unary._tail) <= 3 * kept
    return unary.usage()


def dumps(*items: tuple[str, object]) -> bytes:
    return json.dumps(dict(items)).encode()


@pytest.mark.parametrize("size", [1, 100, 4096, 0])
@pytest.mark.parametrize("words", [0, 10, 1000, 100_000])
@pytest.mark.parametrize("first", [True, False])
def test_usage_before_or_behind_data_of_any_size(first: bool, words: int, size: int) -> None:
    if size == 1 and words > 1000:
        size = 37
    items: list[tuple[str, object]] = [("usage", USAGE), ("data", ["0.123456"] * words)]
    assert read(dumps(*(items if first else items[::-1])), size) == USAGE


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"null", b"\xff", b"<html>", b'{"usage":null}', dumps(("usage", USAGE))[:-1], b"[" * 5000],
)
def test_no_usage(body: bytes) -> None:
    assert read(body) is None


def test_of_an_answer_that_fits_only_the_top_level_counts() -> None:
    assert read(dumps(("usage", USAGE), ("x", {"usage": {"prompt_tokens": 99}}))) == USAGE
    assert read(dumps(("x", {"usage": {"prompt_tokens": 99}}))) is None


FILL = b" " * (3 * SMALL)


@pytest.mark.parametrize(
    ("end", "usage"),
    [
        (b'"usage" :\n {"prompt_tokens": 3} }', {"prompt_tokens": 3}),
        (b'"usage":{"prompt_tokens":3},"x":{"usage":{"type":"object"}}}', {"prompt_tokens": 3}),
        (b'"usage":{"prompt_tokens":3},"usage":{"prompt_tokens":4}}', {"prompt_tokens": 4}),
        # Quoted in a text of the answer.
        (rb'"usage":{"prompt_tokens":3},"text":"\"usage\":{\"prompt_tokens\":4}"}', {"prompt_tokens": 3}),
        (rb'"text":"\"usage":{"prompt_tokens":4}}', None),
        (b'"usage":{"prompt_tok', None),
        (b'"usage":{"prompt_tokens":3', None),
        (b'"usage":null}', None),
        (b'"usage":3}', None),
        (b'"usage":{}}', None),
        (b'"usage":{"prompt_tokens":' + b"9" * 360 + b"}}", {"prompt_tokens": int("9" * 360)}),
        (b'"usage":' + b'{"a":' * 60, None),
        (b'"usage":{"a":"\xff","prompt_tokens":3}}', {"a": "\ufffd", "prompt_tokens": 3}),
    ],
)
def test_of_a_larger_one_the_last_usage_object_near_its_end_counts(end: bytes, usage: object) -> None:
    assert read(b'{"data":' + FILL + end, kept=SMALL) == usage


@pytest.mark.parametrize("size", [0, 1, 7, SMALL])
def test_what_is_kept_does_not_depend_on_the_chunking(size: int) -> None:
    usage = b'"usage":{"prompt_tokens":3}'
    assert read(FILL + usage + b" " * (SMALL - len(usage)), size, kept=SMALL) == {"prompt_tokens": 3}
    assert read(FILL + usage + b" " * (SMALL - len(usage) + 1), size, kept=SMALL) is None


def test_nothing_raises_on_depth() -> None:
    assert read(b" " * (3 * KEPT) + b'"usage":' + b'{"a":' * 2000) is None
    assert read(b" " * (3 * KEPT) + b'"usage":{"a_tokens":' + b"9" * 4050 + b"}") is not None


@MANY
@given(
    body=st.lists(
        st.sampled_from(
            [b'"usage":', b'{"prompt_tokens":3}', b'{"a_tokens":', b"}", b"{", b"\\", b'"', b",", b" " * 50, b"\xff"]
        ),
        max_size=60,
    ).map(b"".join),
    size=st.integers(1, 70),
)
def test_any_chunking_gives_the_same(body: bytes, size: int) -> None:
    assert read(body, size, kept=60) == read(body, kept=60)
