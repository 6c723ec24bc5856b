"""What scrapes of a simulated pod say, beside what is read of the page of `modelsim`'s own server."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.simulation.engine import Engine, Job
from extproc.simulation.events import Events
from extproc.simulation.fleet import PageReader, Refused, SimulatedPod, addresses
from modelsim import engine as oracle
from modelsim.metrics import Metrics
from modelsim.profile import EngineConfig, Profile
from scheduler.pool.dialects import DIALECTS
from scheduler.pool.signals import SignalReader
from scheduler.types import Pod

EXACT = Profile(overhead=1 / 32, per_prompt_token=1 / 4096, inter_token=1 / 64, per_sequence=1 / 8192)


class World:
    """A pod in a simulation and a server's engine, both asked the same."""

    def __init__(self) -> None:
        self.events = Events()
        config = EngineConfig(profile=EXACT, num_blocks=200, max_num_seqs=4, max_loras=2)
        self.pod = SimulatedPod(Pod("127.0.0.1:1"), config, self.events, lambda job, first: None, lambda job: None)
        self.engine = oracle.Engine(config)
        self.metrics = Metrics("m")
        self.reader = SignalReader(DIALECTS["vllm"])
        self.pages = PageReader(self.pod)

    def at(self, now: float) -> None:
        done: list[bool] = []
        self.events.at(now, done.append, True)
        while not done:
            self.events.step()
        for event in self.engine.advance(now):
            self.metrics.observe(event)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_a_scrape_says_what_the_page_says(seed: int) -> None:
    rng = Random(seed)
    world = World()
    now = 0.0
    for number in range(30):
        now += rng.randint(0, 40) / 128
        world.at(now)
        if rng.random() < 0.6:
            blocks = [rng.randint(1, 30)] * 2 + [rng.getrandbits(40) for _ in range(rng.randint(0, 5))]
            adapter = rng.choice(["", "a", "b", "c"])
            output = rng.randint(1, 40)
            world.pod.submit(Job(None, len(blocks) * 16, output, blocks, 16, adapter))
            text = "".join(f"{block:064x}" for block in blocks)
            world.engine.submit(oracle.Request(id=str(number), prompt=text, max_tokens=output, adapter=adapter), now)
        else:
            page = world.metrics.page(world.engine, scripted=0, unix_time=now)
            mine, read = world.pages.read(now), world.reader.read(page)
            assert mine.waiting == read.waiting
            assert mine.running == read.running
            assert mine.kv_usage == pytest.approx(read.kv_usage)
            assert mine.ttft == pytest.approx(read.ttft)
            assert mine.tpot == pytest.approx(read.tpot)
            assert mine.first_tokens == read.first_tokens
            assert mine.kv_tokens == read.kv_tokens
            assert mine.adapters == read.adapters
            assert mine.restarted == read.restarted


def test_a_crash_is_seen_as_a_restart_once_the_new_engine_has_answered_less() -> None:
    world = World()
    world.pages.read(0.0)
    for _ in range(3):
        world.pod.submit(Job(None, 16, 2, [1], 16))
    world.at(5.0)
    assert not world.pages.read(5.0).restarted
    world.pod.crash()
    with pytest.raises(Refused):
        world.pages.read(6.0)
    with pytest.raises(Refused):
        world.pod.submit(Job(None, 16, 2, [1], 16))
    world.pod.come_back()
    world.pod.submit(Job(None, 16, 2, [1], 16))
    world.at(10.0)
    assert world.pages.read(10.0).restarted
    assert not world.pages.read(11.0).restarted


def test_each_pod_has_an_address_of_its_own_on_loopback() -> None:
    found = addresses(2000)
    assert len(set(found)) == 2000
    assert all(one.startswith("127.") for one in found)


def test_an_engine_says_what_would_never_fit() -> None:
    engine = Engine(EngineConfig(num_blocks=10))
    assert engine.fits(Job(None, 100, 60, [1], 512))
    assert not engine.fits(Job(None, 100, 61, [1], 512))
