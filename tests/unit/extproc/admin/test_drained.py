import asyncio

import pytest

from extproc.admin.drained import LONGEST, Drained, TooManyWaits


class Time:
    """Streams that end one a second, and a clock that sleeping moves."""

    def __init__(self, streams: int) -> None:
        self.now, self.streams = 0.0, streams

    async def left(self) -> int:
        return max(self.streams - int(self.now), 0)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("streams", "after", "within", "left", "seconds"),
    [
        (0, 0, 10, 0, 0),
        (0, 5, 10, 0, 5),
        (3, 0, 10, 0, 3),
        (3, 5, 10, 0, 5),
        (3, 0, 2, 1, 2),
        (9, 5, 2, 7, 2),
        (9, 0, 0, 9, 0),
    ],
)
async def test_waits_for_the_last_stream_or_the_end_of_the_time(
    streams: int, after: float, within: float, left: int, seconds: float
) -> None:
    time = Time(streams)
    assert await Drained(time.left, sleep=time.sleep, clock=lambda: time.now).wait(after, within) == left
    assert time.now == pytest.approx(seconds, abs=0.11)


async def test_nobody_waits_for_ever() -> None:
    time = Time(10**9)
    assert await Drained(time.left, sleep=time.sleep, clock=lambda: time.now).wait(0, 1e12) > 0
    assert time.now == pytest.approx(LONGEST, abs=0.2)


async def test_waits_are_bounded_and_given_back() -> None:
    time = Time(0)
    gate = asyncio.Event()
    drained = Drained(time.left, sleep=lambda _seconds: gate.wait(), clock=lambda: time.now, max_waits=2)
    waits = [asyncio.create_task(drained.wait(1, 1)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyWaits):
        await drained.wait(1, 1)
    waits[0].cancel()
    gate.set()
    await asyncio.gather(*waits, return_exceptions=True)
    assert await drained.wait(1, 1) == 0
