import asyncio

import pytest

from modelsim.api.base import Usage
from modelsim.events import Event, Finished, FirstToken, Token
from modelsim.faults import Faults
from modelsim.jobs import EngineJob, ScriptedJob

FIRST = FirstToken("a", 1.0, prompt_tokens=20, cached_tokens=16, ttft=1.0)
NEXT = Token("a", 2.0, gap=1.0)
LAST = Finished("a", 3.0, 20, 16, 2, latency=3.0, queued=0.0)


async def test_tokens_that_are_there_are_given_at_once() -> None:
    job = EngineJob("a")
    for event in (FIRST, NEXT, NEXT):
        job.receive(event)
    assert await job.more() == 3
    assert job.usage == Usage(20, 16, 3)
    assert not job.finished


async def test_the_end_is_told_even_without_tokens() -> None:
    job = EngineJob("a")
    job.receive(LAST)
    assert await job.more() == 0
    assert job.finished
    assert job.usage == Usage(20, 16, 0)


async def test_a_reader_is_woken_for_as_many_as_it_wants() -> None:
    job = EngineJob("a")
    waiting = asyncio.ensure_future(job.more(3))
    for event in (FIRST, NEXT):
        await asyncio.sleep(0)
        job.receive(event)
    await asyncio.sleep(0)
    assert not waiting.done()
    job.receive(NEXT)
    assert await waiting == 3


async def test_a_reader_is_woken_at_the_end_with_what_there_is() -> None:
    job = EngineJob("a")
    waiting = asyncio.ensure_future(job.more(100))
    await asyncio.sleep(0)
    for event in (FIRST, NEXT, LAST):
        job.receive(event)
    assert await waiting == 2
    assert job.finished


async def test_a_scripted_answer_reports_what_an_engine_would() -> None:
    events: list[Event] = []
    faults = Faults(first_token_delay=0.002, token_delay=0.001)
    job = ScriptedJob(faults, prompt_tokens=20, max_tokens=3, observe=events.append)
    assert await job.more() == 1
    assert await job.more(100) == 2
    assert job.finished
    assert job.usage == Usage(20, 0, 3)
    assert [type(event) for event in events] == [FirstToken, Token, Token, Finished]
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.latency >= 0.004


@pytest.mark.parametrize("delay", [0.0, 0.002])
async def test_a_scripted_answer_without_tokens(delay: float) -> None:
    events: list[Event] = []
    job = ScriptedJob(Faults(first_token_delay=delay), prompt_tokens=20, max_tokens=0, observe=events.append)
    start = asyncio.get_running_loop().time()
    assert await job.more() == 0
    assert job.finished
    assert asyncio.get_running_loop().time() - start >= delay
    assert [type(event) for event in events] == [Finished]
