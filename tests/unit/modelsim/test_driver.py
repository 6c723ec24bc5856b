import asyncio

import pytest

from modelsim.driver import Driver
from modelsim.engine import Request
from modelsim.errors import RequestTooLong
from modelsim.metrics import Metrics
from modelsim.profile import EngineConfig, Profile

#: The first token comes after 2 ms, each further one after 1 ms.
PROFILE = Profile(overhead=0.002, per_prompt_token=0, inter_token=0.001, per_sequence=0, adapter_load=0)


def driver(profile: Profile = PROFILE) -> Driver:
    return Driver(EngineConfig(profile=profile), Metrics("m"))


def request(name: str = "a", *, answer: int = 1, prompt: str = "x", adapter: str = "") -> Request:
    return Request(id=name, prompt=prompt, max_tokens=answer, adapter=adapter)


async def test_tokens_come_when_the_engine_says() -> None:
    drive = driver()
    loop = asyncio.get_running_loop()
    start = loop.time()
    job = drive.submit(request(answer=3))
    assert await job.more() >= 1
    assert loop.time() - start >= 0.002
    await job.more(100)
    assert job.finished
    assert loop.time() - start >= 0.004
    assert job.usage.completion_tokens == 3
    drive.close(job)
    drive.stop()


async def test_many_jobs_at_once() -> None:
    drive = driver()
    jobs = [drive.submit(request(str(number), answer=4, adapter="sql")) for number in range(20)]
    assert await asyncio.gather(*[job.more(100) for job in jobs]) == [4] * 20
    assert drive.engine.running == 0
    for job in jobs:
        drive.close(job)
    drive.stop()


async def test_closing_an_unfinished_job_aborts_it() -> None:
    drive = driver(Profile(overhead=3600))
    job = drive.submit(request())
    assert drive.engine.running == 1
    drive.close(job)
    assert drive.engine.running == 0
    drive.stop()


async def test_a_job_that_ends_while_it_is_being_closed() -> None:
    """Its tokens were due before the event loop came round to them."""
    drive = driver()
    job = drive.submit(request())
    other = drive.submit(request("b"))
    loop = asyncio.get_running_loop()
    start = loop.time()
    while loop.time() - start < 0.003:
        pass
    drive.close(job)
    assert drive.engine.running == 0
    assert await other.more() == 1
    assert other.finished
    drive.close(other)
    drive.stop()


async def test_what_does_not_fit_leaves_nothing_behind() -> None:
    drive = driver()
    with pytest.raises(RequestTooLong):
        drive.submit(request(prompt="x" * 1_000_000))
    job = drive.submit(request())
    assert await job.more() == 1
    drive.close(job)
    drive.stop()
