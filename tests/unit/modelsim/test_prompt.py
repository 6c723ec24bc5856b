import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsim.prompt import block_hashes, count_tokens

CHARS = 64


@pytest.mark.parametrize(("length", "tokens"), [(0, 1), (1, 1), (4, 1), (5, 2), (64, 16), (65, 17)])
def test_four_characters_are_a_token(length: int, tokens: int) -> None:
    assert count_tokens("x" * length) == tokens


@given(st.text(max_size=300))
def test_only_full_blocks_have_a_hash(text: str) -> None:
    assert len(block_hashes(text)) == len(text) // CHARS


@given(st.text(min_size=CHARS, max_size=300), st.text(max_size=200))
def test_equal_prefixes_have_equal_hashes(text: str, more: str) -> None:
    hashes = block_hashes(text)
    assert block_hashes(text + more)[: len(hashes)] == hashes


def test_a_block_depends_on_all_before_it() -> None:
    same_end = "e" * CHARS
    assert block_hashes("a" * CHARS + same_end)[1] != block_hashes("b" * CHARS + same_end)[1]


def test_a_block_depends_on_the_adapter() -> None:
    assert block_hashes("a" * CHARS) != block_hashes("a" * CHARS, adapter="sql")


def test_lone_surrogates_do_no_harm() -> None:
    assert len(block_hashes("\ud800" * CHARS, adapter="\ud800")) == 1
