import pytest

from scheduler.prefix.hasher import Hasher
from scheduler.types import Prompt


def hasher(seed: int = 1, remembered: int = 4) -> Hasher:
    return Hasher(block_size=4, max_blocks=8, unit=2, seed=seed, remembered=remembered)


def names(of: Hasher, text: str, model: str = "m") -> list[int]:
    return [unit.name for unit in of.hashes(model, Prompt([text]))[0]]


def test_equal_beginnings_have_equal_hashes() -> None:
    assert names(hasher(), "aaaabbbbcccc")[0] == names(hasher(), "aaaabbbbdddd")[0]
    assert names(hasher(), "aaaabbbbcccc")[1] != names(hasher(), "aaaabbbbdddd")[1]


@pytest.mark.parametrize("other", [hasher(seed=2), None])
def test_another_seed_or_model_has_others(other: Hasher | None) -> None:
    here = names(hasher(), "aaaabbbb")
    assert names(other or hasher(), "aaaabbbb", "m" if other else "other") != here


def test_what_is_remembered_is_what_would_be_hashed() -> None:
    """Through both generations, however few are kept."""
    small, fresh = hasher(remembered=1), hasher()
    texts = ["aaaabbbbcccc", "aaaabbbbdddd", "eeeeffffgggg", "aaaabbbbcccc"] * 2
    assert [names(small, text) for text in texts] == [names(fresh, text) for text in texts]


def test_another_secret_forgets_what_prompts_remember() -> None:
    one, prompt = hasher(), Prompt(["aaaabbbb"])
    before = one.hashes("m", prompt)
    assert one.hashes("m", prompt) is not before
    one.reseed(2)
    assert [unit.name for unit in one.hashes("m", prompt)[0]] == names(hasher(seed=2), "aaaabbbb")


def test_the_share_that_is_covered() -> None:
    assert hasher().hashes("m", Prompt(["aaaabb"]))[1] == pytest.approx(4 / 6)
    assert hasher().hashes("m", Prompt(["aa"])) == ([], 0.0)
