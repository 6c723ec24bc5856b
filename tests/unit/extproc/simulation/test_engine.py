"""The simulation's engine beside `modelsim`'s, which does every step and sends every token."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.simulation.engine import BEGAN, FINISHED, Engine, Job
from modelsim import engine as oracle
from modelsim.events import Finished, FirstToken, Token
from modelsim.profile import EngineConfig, Profile

#: Times that binary fractions hold exactly, so that sums of them are equal in any order.
EXACT = Profile(
    overhead=1 / 32, per_prompt_token=1 / 4096, inter_token=1 / 64, per_sequence=1 / 8192, adapter_load=1 / 16
)


def text(blocks: list[int], tokens: int) -> str:
    return "".join(f"{block:064x}" for block in blocks)[: tokens * 4]


class Pair:
    """Both engines, asked the same."""

    def __init__(self, config: EngineConfig) -> None:
        self.mine = Engine(config)
        self.theirs = oracle.Engine(config)
        self.jobs: dict[str, Job] = {}
        self.seen_mine: list[tuple[str, str, float]] = []
        self.seen_theirs: list[tuple[str, str, float]] = []
        self.tokens = 0
        self.gaps = 0.0

    def submit(self, name: str, blocks: list[int], tokens: int, output: int, adapter: str, now: float) -> None:
        self.look(now)
        job = self.jobs[name] = Job(name, tokens, output, blocks, 16, adapter)
        self.mine.submit(job, now)
        self.theirs.submit(
            oracle.Request(id=name, prompt=text(blocks, tokens), max_tokens=output, adapter=adapter), now
        )

    def abort(self, name: str, now: float) -> None:
        self.look(now)
        self.mine.abort(self.jobs[name], now)
        self.theirs.abort(name, now)

    def look(self, now: float) -> None:
        self.seen_mine += [(what, str(job.owner), at) for what, job, at in self.mine.advance(now)]
        for event in self.theirs.advance(now):
            if isinstance(event, FirstToken):
                self.seen_theirs.append((BEGAN, event.id, event.at))
            elif isinstance(event, Finished):
                self.seen_theirs.append((FINISHED, event.id, event.at))
                assert event.cached_tokens == self.jobs[event.id].cached_tokens
            else:
                assert isinstance(event, Token)
                self.tokens += 1
                self.gaps += event.gap
        self.mine.settle(now)
        assert self.seen_mine == self.seen_theirs
        mine, theirs = self.mine, self.theirs
        assert (mine.running, mine.waiting) == (theirs.running, theirs.waiting)
        assert mine.kv.used == theirs.kv_cache.used
        assert mine.kv.usage == theirs.kv_usage
        assert (mine.tpot_count, mine.tpot_sum) == (self.tokens, self.gaps)
        assert (mine.prefix_queries, mine.prefix_hits) == (theirs.prefix_queries, theirs.prefix_hits)
        assert sorted(mine.adapters[0]) == sorted(theirs.running_adapters)
        assert mine.adapters[1] == list(theirs.waiting_adapters)


@settings(max_examples=150)
@given(seed=st.integers(0, 2**32), tight=st.booleans(), adapters=st.booleans())
def test_both_engines_do_the_same_at_every_moment(seed: int, tight: bool, adapters: bool) -> None:
    rng = Random(seed)
    pair = Pair(EngineConfig(profile=EXACT, num_blocks=60 if tight else 2000, max_num_seqs=rng.choice([2, 5, 64]),
                             max_num_batched_tokens=rng.choice([64, 256]), max_loras=2 if adapters else 0))  # fmt: skip
    prefixes = [[rng.getrandbits(40) for _ in range(rng.randint(0, 8))] for _ in range(3)]
    now = 0.0
    names: list[str] = []
    for number in range(30):
        now += rng.choice([0.0, 1 / 1024, 1 / 16, rng.randint(1, 64) / 32])
        if names and rng.random() < 0.15:
            pair.abort(rng.choice(names), now)
            continue
        blocks = rng.choice(prefixes) + [rng.getrandbits(40) for _ in range(rng.randint(0, 6))]
        tokens = max(len(blocks) * 16 - rng.choice([0, 0, 3, 15]), 1)
        if not blocks:
            blocks = [rng.getrandbits(40)]
        output = rng.choice([1, 2, 16, 17, rng.randint(1, 120)])
        name = str(number)
        names.append(name)
        pair.submit(name, blocks, tokens, output, f"a{rng.randint(0, 2)}" if adapters else "", now)
        if rng.random() < 0.5:
            pair.look(now + rng.randint(0, 64) / 2048)
            now = max(now, now + 64 / 2048)
    pair.look(now + 1000.0)
    assert not pair.mine.running
    assert not pair.mine.waiting
    assert pair.mine.kv.used == 0


def test_an_idle_engine_has_nothing_to_do() -> None:
    assert Engine(EngineConfig()).next_event() == float("inf")


@pytest.mark.parametrize("block_tokens", [16, 512])
def test_a_prompt_that_is_there_as_a_whole_has_its_last_block_computed_again(block_tokens: int) -> None:
    engine = Engine(EngineConfig())
    count = 1024 // block_tokens
    for expected in (0, 1008):
        job = Job("", 1024, 2, list(range(count)), block_tokens)
        start = engine.next_event()
        engine.submit(job, 0.0 if start == float("inf") else start)
        while job.finished_at == float("inf"):
            engine.advance(engine.next_event())
        assert job.cached_tokens == expected
        engine = engine
