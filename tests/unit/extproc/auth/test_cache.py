from support.fixed_keys import FixedKeys

from extproc.auth.base import Identity, Reason
from extproc.auth.cache import VerdictCache
from extproc.auth.keys import KeySet
from extproc.auth.verdicts import Accepted, Refused

KEYS = KeySet((), ())
ALICE = Identity("alice", "", {})


def test_a_verdict_is_kept_until_its_time() -> None:
    cache, source = VerdictCache(), FixedKeys(KEYS)
    cache.accept(b"a", Accepted(ALICE, 100.0, source, KEYS))
    assert cache.get(b"a", 99.9) is ALICE
    assert cache.get(b"a", 100.0) is None
    assert len(cache) == 0


def test_a_refusal_is_kept_until_its_time() -> None:
    cache = VerdictCache()
    cache.refuse(b"a", Refused(Reason.MALFORMED, 2.0))
    assert cache.get(b"a", 1.9) is Reason.MALFORMED
    assert cache.get(b"a", 2.0) is None
    assert len(cache) == 0


def test_new_keys_void_both() -> None:
    cache, source = VerdictCache(), FixedKeys(KEYS)
    cache.accept(b"a", Accepted(ALICE, 100.0, source, KEYS))
    cache.refuse(b"b", Refused(Reason.BAD_SIGNATURE, 100.0, source, KEYS))
    assert cache.get(b"b", 1.0) is Reason.BAD_SIGNATURE
    source.keys = KeySet((), ())
    assert cache.get(b"a", 1.0) is None
    assert cache.get(b"b", 1.0) is None


def test_no_keys_void_what_was_accepted() -> None:
    cache, source = VerdictCache(), FixedKeys(KEYS)
    cache.accept(b"a", Accepted(ALICE, 100.0, source, KEYS))
    source.keys = None
    assert cache.get(b"a", 1.0) is None


def test_the_least_recently_used_makes_room() -> None:
    cache, source = VerdictCache(accepted=2), FixedKeys(KEYS)
    for digest in (b"a", b"b"):
        cache.accept(digest, Accepted(ALICE, 100.0, source, KEYS))
    cache.get(b"a", 1.0)
    cache.accept(b"c", Accepted(ALICE, 100.0, source, KEYS))
    assert [cache.get(digest, 1.0) is ALICE for digest in (b"a", b"b", b"c")] == [True, False, True]


def test_refusals_do_not_push_out_what_was_accepted() -> None:
    cache, source = VerdictCache(accepted=2, refused=2), FixedKeys(KEYS)
    cache.accept(b"a", Accepted(ALICE, 100.0, source, KEYS))
    for digest in (b"x", b"y", b"z"):
        cache.refuse(digest, Refused(Reason.MALFORMED, 2.0))
    assert cache.get(b"a", 1.0) is ALICE
    assert [cache.get(digest, 1.0) for digest in (b"x", b"y", b"z")] == [None, Reason.MALFORMED, Reason.MALFORMED]
    assert len(cache) == 3
