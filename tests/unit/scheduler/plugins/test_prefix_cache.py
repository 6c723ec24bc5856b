import numpy as np
from support.snapshots import P, address, cycle, request, snapshot

from scheduler.framework import Cycle
from scheduler.plugins.prefix_cache import PrefixCache, PrefixCacheParams
from scheduler.types import Undo

#: Ten blocks of 64 bytes.
TEXT = "".join(chr(65 + n) * 64 for n in range(10))


def plugin(**changes: int) -> PrefixCache:
    return PrefixCache(PrefixCacheParams(**changes), seed=1)


def scores(of: PrefixCache, text: str, count: int = 3, model: str = "m") -> list[float]:
    pods, now = snapshot(*[P()] * count), cycle()
    of.prepare(request(text, model=model), pods, now)
    return of.score(request(text, model=model), pods, now).tolist()


def pick(of: PrefixCache, text: str, row: int, model: str = "m") -> Undo | None:
    pods, now = snapshot(*[P()] * 3), cycle()
    of.prepare(request(text, model=model), pods, now)
    return of.picked(request(text, model=model), pods.pods[row], now)


def test_the_share_of_the_prompts_blocks() -> None:
    of = plugin()
    assert scores(of, TEXT) == [0, 0, 0]
    pick(of, TEXT[: 64 * 4], 1)
    pick(of, TEXT, 2)
    assert scores(of, TEXT) == [0, 40, 100]
    assert scores(of, TEXT[:640] + "y" * 640) == [0, 20, 50]


def test_a_conversations_next_turn_matches_its_last() -> None:
    of = plugin()
    pick(of, TEXT + "what?", 0)
    assert scores(of, TEXT + "what?" + "z" * 59)[0] == 100 * 10 / 11


def test_models_do_not_share() -> None:
    of = plugin()
    pick(of, TEXT, 0, model="m")
    assert scores(of, TEXT, model="m-lora") == [0, 0, 0]


def test_the_pick_can_be_taken_back() -> None:
    of = plugin()
    undo = pick(of, TEXT, 0)
    assert undo is not None
    undo()
    assert scores(of, TEXT) == [0, 0, 0]


def test_a_pod_that_left_is_forgotten() -> None:
    of = plugin()
    pick(of, TEXT, 0)
    of.left(snapshot(P()).pods[0])
    assert scores(of, TEXT) == [0, 0, 0]


def test_a_prompt_without_a_full_block_says_nothing() -> None:
    of, pods, now = plugin(), snapshot(P(), P()), cycle()
    of.prepare(request("short"), pods, now)
    assert now.prefix_match is None
    assert of.score(request("short"), pods, now).tolist() == [0, 0]
    assert of.picked(request("short"), pods.pods[0], now) is None


def test_it_tells_the_cycle() -> None:
    of, pods, now = plugin(block_size=64, max_blocks=5), snapshot(P(), P()), cycle()
    pick(of, TEXT, 1)
    of.prepare(request(TEXT), pods, now)
    assert isinstance(now.prefix_match, np.ndarray)
    assert now.prefix_match.tolist() == [0, 1]
    # Five blocks of 64 bytes and one of 256, of 640.
    assert now.prefix_span == 0.9


def test_the_score_is_of_the_head_and_the_match_of_the_whole_prompt() -> None:
    of, pods, now = plugin(max_blocks=4), snapshot(P(), P(), P()), cycle()
    pick(of, TEXT[:256] + "x" * 2000, 0)
    pick(of, TEXT[:128] + "x" * 2000, 1)
    of.prepare(request(TEXT[:256] + "y" * 2048), pods, now)
    assert of.score(request(), pods, now).tolist() == [100, 50, 0]
    assert now.prefix_match is not None
    assert now.prefix_match.tolist() == [256 / 2304, 128 / 2304, 0]


def test_statistics() -> None:
    of = plugin()
    pick(of, TEXT, 0)
    pick(of, TEXT, 1)
    assert of.statistics() == {"entries": 20, "blocks": 10}


def test_the_bound_is_per_pod() -> None:
    of = plugin(max_blocks_per_pod=4)
    pick(of, TEXT, 0)
    assert of.statistics()["entries"] == 4


def test_what_a_pod_is_taken_to_hold_follows_the_size_of_its_kv_cache() -> None:
    of, now = plugin(), cycle()
    pods = snapshot(P(), P())
    pods.kv_tokens[0] = 200  # 800 bytes, and each prompt has 640
    for text in (TEXT, TEXT.lower()):
        for row in range(2):
            of.prepare(request(text), pods, now)
            of.picked(request(text), pods.pods[row], now)

    def known(text: str) -> list[float]:
        of.prepare(request(text), pods, now)
        return of.score(request(text), pods, now).tolist()

    assert known(TEXT.lower()) == [100, 100]
    assert known(TEXT) == [0, 100]


def test_each_instance_has_a_secret_of_its_own() -> None:
    one, other = PrefixCache(PrefixCacheParams()), PrefixCache(PrefixCacheParams())
    assert one.index.hasher.hashes("m", request(TEXT).prompt) != other.index.hasher.hashes("m", request(TEXT).prompt)


def test_an_unprepared_cycle_is_no_preference() -> None:
    pods = snapshot(P(address=address(0)))
    assert plugin().score(request(TEXT), pods, Cycle(now=0.0, rng=cycle().rng)).tolist() == [0]


def test_what_is_told_is_known_there() -> None:
    one, other = plugin(), plugin()
    told: list[Undo] = []
    taken_back: list[str] = []

    def tell(where: str, data: bytes, /) -> Undo:
        told.append(other.told(where, data))
        return lambda: taken_back.append(where)

    for each in (one, other):
        each.share(7, tell)
    undo = pick(one, TEXT, 1)
    assert scores(one, TEXT) == scores(other, TEXT) == [0, 100, 0]
    assert undo is not None
    undo()
    told[0]()
    assert scores(one, TEXT) == scores(other, TEXT) == [0, 0, 0]
    assert taken_back == [address(1)]


def test_what_is_told_to_one_that_comes_later() -> None:
    one, other = plugin(), plugin()
    for row in range(3):
        pick(one, TEXT[: 64 * (row + 1)], row)
    for where, data in one.memory():
        other.told(where, data)
    assert scores(other, TEXT) == scores(one, TEXT) == [10, 20, 30]
