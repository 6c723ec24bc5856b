from __future__ import annotations

import base64
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.parsers.digest import LONG_STRING, PIECE, canonical, digest

MANY = settings(max_examples=150)


def test_canonical() -> None:
    assert canonical({"b": [1, "é\x1e"], "a": None}) == '{"a":null,"b":[1,"é\\u001e"]}'


@MANY
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_canonical_text_has_no_mark(text: str) -> None:
    assert "\x1e" not in canonical({text: text})


def test_digest_is_short_and_sees_every_byte() -> None:
    image = base64.b64encode(random.Random(1).randbytes(3 * PIECE)).decode()
    part = {"type": "image_url", "image_url": {"url": image}}
    seen = {digest(part)}
    for at in (0, 1, LONG_STRING, PIECE - 1, PIECE, 2 * PIECE, len(image) - 1):
        changed = image[:at] + ("A" if image[at] != "A" else "B") + image[at + 1 :]
        seen.add(digest({"type": "image_url", "image_url": {"url": changed}}))
    seen.add(digest({"type": "image_url", "image_url": {"url": image[:-1]}}))
    seen.add(digest({"type": "image_url", "image_url": {"url": image, "detail": "low"}}))
    assert len(seen) == 10
    assert {len(name) for name in seen} == {32}


def test_digest_takes_any_text() -> None:
    assert digest("é" * PIECE) != digest("é" * (PIECE + 1))
    assert digest("a" * LONG_STRING) != digest("a" * (LONG_STRING + 1))


def test_digest_knows_one_spelling_and_no_cache_control() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1, "cache_control": {"type": "ephemeral"}})
    assert digest([{"a": 1}]) == digest([{"a": 1, "cache_control": None}])
    assert digest([1]) != digest(["1"])
    assert digest(None) != digest(False)
