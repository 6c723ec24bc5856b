from extproc.sharing.secret import secret_of


def test_one_secret_makes_one_seed() -> None:
    assert secret_of(b"the secret", "group") == secret_of(b"the secret\n", "group")


def test_another_secret_or_group_makes_another() -> None:
    found = {secret_of(material, group) for material in (b"a", b"b", b"") for group in ("g", "h")}
    assert len({one.seed for one in found}) == len({one.seal for one in found}) == 6
    assert all(0 <= one.seed < 1 << 64 and len(one.seal) == 8 for one in found)
    assert all(one.seed.to_bytes(8, "big") != one.seal for one in found)
