import asyncio
import gzip
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, suppress
from math import isnan

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from extproc.fleet.scrape import (
    DEAR_PAGE,
    DEAR_SHARE,
    DEFAULT_INTERVAL,
    FIRST_SPREAD,
    MAX_BACKOFF,
    MAX_STRETCH,
    STEPPED_PAGE,
    Cost,
    FailureReason,
    Scraper,
    backoff,
    stretch,
)
from scheduler.pool.dialects import VLLM, custom
from scheduler.pool.signals import Sample, SignalReader
from scheduler.pool.store import PodStore
from scheduler.types import Pod

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PAGE = b"# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting 3\n"


class Beats:
    """A clock and a sleep under the test's hand: a loop goes on when its address is told to."""

    def __init__(self) -> None:
        self.now = 100.0
        self._asleep: dict[str, tuple[float, asyncio.Future[None]]] = {}
        self._changed = asyncio.Condition()

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        address = task.get_name().removeprefix("scrape ")
        future = asyncio.get_running_loop().create_future()
        async with self._changed:
            self._asleep[address] = seconds, future
            self._changed.notify_all()
        try:
            await future
        finally:
            # A loop that was cancelled may end after its successor began.
            if self._asleep.get(address, (0.0, None))[1] is future:
                del self._asleep[address]

    async def asleep(self, pod: Pod) -> float:
        """Waits until the loop of a pod sleeps, and says how long it wants to."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: pod.address in self._asleep and not self._asleep[pod.address][1].done()
            )
        return self._asleep[pod.address][0]

    async def beat(self, pod: Pod) -> float:
        """One scrape of a pod: from its sleep to its next one, which it tells."""
        await self.wake(pod)
        return await self.asleep(pod)

    async def wake(self, pod: Pod) -> None:
        await self.asleep(pod)
        self._asleep[pod.address][1].set_result(None)


class Counts:
    """An observer."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.failures: list[str] = []

    def scraped(self, seconds: float) -> None:
        self.seconds.append(seconds)

    def scrape_failed(self, reason: str) -> None:
        self.failures.append(reason)


@asynccontextmanager
async def serve(handler: Handler) -> AsyncIterator[Pod]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    async with TestServer(app, host="127.0.0.1") as server:
        yield Pod(f"127.0.0.1:{server.port}")


async def page(_: web.Request) -> web.StreamResponse:
    return web.Response(body=PAGE)


class Bench:
    """A scraper with everything around it that it needs."""

    def __init__(self, **settings: float) -> None:
        self.beats = Beats()
        self.left: list[Pod] = []
        self.store = PodStore(2.0, on_left=self.left.append)
        self.counts = Counts()
        self.scraper = Scraper(
            self.store,
            lambda _: VLLM,
            observer=self.counts,
            clock=self.beats.clock,
            sleep=self.beats.sleep,
            **settings,  # type: ignore[arg-type]  # all of them are numbers
        )

    def set_pods(self, *pods: Pod) -> None:
        self.store.set_pods(pods, self.beats.now)
        self.scraper.set_pods(pods)

    def row(self, pod: Pod) -> dict[str, object]:
        return next(row for row in self.store.statistics(self.beats.now) if row["address"] == pod.address)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench(timeout=5.0)
    async with bench.scraper:
        yield bench
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_samples_reach_the_store(bench: Bench) -> None:
    async with serve(page) as pod:
        bench.set_pods(pod)
        await bench.beats.beat(pod)
        assert bench.store.snapshot(bench.beats.now).waiting[0] == 3
        assert bench.counts.seconds == [0.0]
        assert bench.counts.failures == []


async def test_what_is_asked_for(bench: Bench) -> None:
    asked: list[web.Request] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append(request)
        return web.Response(body=PAGE)

    async with serve(handler) as pod:
        bench.set_pods(pod)
        for _ in range(3):
            await bench.beats.beat(pod)
    assert {(request.method, request.path) for request in asked} == {("GET", "/metrics")}
    assert {request.headers["Accept"] for request in asked} == {"text/plain;version=0.0.4"}
    assert {request.headers["Accept-Encoding"] for request in asked} == {"identity"}
    # One connection is kept.
    assert len({request.transport for request in asked}) == 1


async def test_the_dialect_is_that_of_the_pod_and_nobody_has_to_observe() -> None:
    beats, store = Beats(), PodStore(2.0)
    paths: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        paths.append(request.path)
        return web.Response(text="mine 5\n", status=500 if len(paths) == 1 else 200)

    mine = custom({"waiting": "mine"}, path="/stats")
    async with serve(handler) as pod, Scraper(store, lambda _: mine, clock=beats.clock, sleep=beats.sleep) as scraper:
        store.set_pods([pod], 0.0)
        scraper.set_pods([pod])
        await beats.beat(pod)
        await beats.beat(pod)
    assert paths == ["/stats", "/stats"]
    assert store.snapshot(100.0).waiting[0] == 5


def answer(**settings: object) -> Handler:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(**settings)  # type: ignore[arg-type]  # as the cases below say

    return handler


async def hang(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError(request)


async def hang_in_the_body(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(PAGE)
    await asyncio.Event().wait()
    return response


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(PAGE * 100)


async def hang_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def cut_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "100000"})
    await response.prepare(request)
    await response.write(PAGE)
    assert request.transport is not None
    request.transport.close()
    return response


async def redirect(_: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("/elsewhere")


async def lines_of_one_name(_: web.Request) -> web.StreamResponse:
    return web.Response(body=b"vllm:num_requests_waiting 1\n" * 20_000)


FAILURES = {
    "500": (answer(status=500, body=PAGE), FailureReason.HTTP_STATUS, "http_status: 500"),
    "404": (answer(status=404), FailureReason.HTTP_STATUS, "http_status: 404"),
    "204": (answer(status=204), FailureReason.HTTP_STATUS, "http_status: 204"),
    "redirect": (redirect, FailureReason.HTTP_STATUS, "http_status: 302"),
    "html": (answer(text="<html>hello</html>"), FailureReason.NOT_METRICS, "not_metrics: the page is not in"),
    "binary": (answer(body=bytes(range(256)) * 10), FailureReason.NOT_METRICS, "not_metrics: "),
    "compressed": (
        answer(body=gzip.compress(PAGE), headers={"Content-Encoding": "gzip"}),
        FailureReason.NOT_METRICS,
        "not_metrics: ",
    ),
    "hangs": (hang, FailureReason.TIMEOUT, "timeout"),
    "hangs in the body": (hang_in_the_body, FailureReason.TIMEOUT, "timeout"),
    "too many lines": (lines_of_one_name, FailureReason.TOO_LARGE, "too_large: more than 10000 lines"),
    "huge": (answer(body=PAGE * 20_000), FailureReason.TOO_LARGE, "too_large: more than 1000000 bytes"),
    "endless": (endless, FailureReason.TOO_LARGE, "too_large: more than 1000000 bytes"),
    "hangs up": (hang_up, FailureReason.CONNECT, "connect: "),
    "cut off": (cut_off, FailureReason.CONNECT, "connect: "),
}


@pytest.mark.parametrize(("broken", "reason", "text"), FAILURES.values(), ids=FAILURES)
async def test_a_failure_has_a_reason_and_disturbs_nobody_else(
    broken: Handler, reason: FailureReason, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "extproc.fleet.scrape")
    handler = broken

    async def changing(request: web.Request) -> web.StreamResponse:
        return await handler(request)

    bench = Bench(timeout=0.1 if reason is FailureReason.TIMEOUT else 5.0, max_page=1_000_000)
    async with serve(changing) as pod, serve(page) as other, bench.scraper:
        bench.set_pods(pod, other)
        for _ in range(2):
            await bench.beats.wake(pod)
            await bench.beats.beat(other)
            await bench.beats.asleep(pod)
        assert bench.counts.failures == [reason, reason]
        assert bench.row(pod)["failures"] == 2
        assert str(bench.row(pod)["error"]).startswith(text)
        assert isnan(bench.store.snapshot(bench.beats.now).waiting[0])
        assert bench.row(other)["waiting"] == 3
        assert bench.row(other)["failures"] == 0

        handler = page
        await bench.beats.beat(pod)
        assert bench.row(pod)["waiting"] == 3
        assert bench.row(pod)["failures"] == 0
    # Once for each change, however many failures.
    told = [
        record.message for record in caplog.records if pod.address in record.message and "dear" not in record.message
    ]
    assert len(told) == 2
    assert told[0].startswith(f"cannot scrape {pod.address}: {text}")
    assert told[1] == f"{pod.address} is scraped again"
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_who_listens_where_nobody_did_is_another_process(bench: Bench) -> None:
    """An engine that does not tell when it was started, as SGLang."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", page)
    async with TestServer(app, host="127.0.0.1") as server:
        pod = Pod(f"127.0.0.1:{server.port}")
        bench.set_pods(pod)
        for _ in range(2):
            await bench.beats.beat(pod)
        port = server.port
    assert bench.left == []
    await bench.beats.beat(pod)
    again = web.Application()
    again.router.add_route("*", "/{path:.*}", page)
    async with TestServer(again, host="127.0.0.1", port=port):
        for _ in range(3):
            await bench.beats.beat(pod)
        assert bench.left == [pod]
        assert bench.row(pod)["waiting"] == 3


async def test_nobody_listens(bench: Bench) -> None:
    async with serve(page) as pod:
        pass
    bench.set_pods(pod)
    await bench.beats.beat(pod)
    assert bench.counts.failures == ["connect"]


async def test_what_does_not_speak_http(bench: Bench) -> None:
    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com ready\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        pod = Pod(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        bench.set_pods(pod)
        await bench.beats.beat(pod)
        assert bench.counts.failures == ["connect"]


async def test_endless_interim_answers(bench: Bench) -> None:
    """They used to be read in one go for as long as they came: no time-out could fire, and nobody else had a turn."""

    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while True:
                writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000)
                await writer.drain()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server, serve(page) as other:
        pod = Pod(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        bench.set_pods(pod, other)
        await bench.beats.beat(pod)
        await bench.beats.beat(other)
        assert bench.counts.failures == ["connect"]
        assert str(bench.row(pod)["error"]) == "connect: more than 8 interim answers"
        assert bench.row(other)["waiting"] == 3


async def test_a_large_page_is_read_in_turns_with_others(bench: Bench) -> None:
    turns: list[int] = []

    class Watched(SignalReader):
        def steps(self, page: bytes) -> Generator[None, None, Sample]:
            asyncio.get_running_loop().call_soon(turns.append, len(page))
            return (yield from super().steps(page))

    reader, cost = Watched(VLLM), Cost()
    for text in (PAGE, PAGE * 10 + b"# " + b"x" * STEPPED_PAGE + b"\n"):
        await bench.scraper._read(text, reader, cost)
        assert turns == ([] if text is PAGE else [len(PAGE), len(text)])
    assert cost.cpu > 0


async def test_a_dear_page_is_asked_for_more_rarely(caplog: pytest.LogCaptureFixture) -> None:
    """And told of once. The page is as cheap as any: its cost is what the clock of this thread has it to be."""
    bench = Bench(timeout=5.0)
    spent = 0.0
    costs = [0.0]

    def thread_time() -> float:
        nonlocal spent
        spent += costs[-1]
        return spent

    bench.scraper = Scraper(
        bench.store, lambda _: VLLM, clock=bench.beats.clock, sleep=bench.beats.sleep, cpu_clock=thread_time
    )
    async with serve(page) as pod, bench.scraper:
        bench.set_pods(pod)
        await bench.beats.asleep(pod)
        waits = []
        for cost in (0.0, 10 * DEAR_PAGE, 10 * DEAR_PAGE, 0.0):
            costs.append(cost)
            waits.append(await bench.beats.beat(pod))
        assert bench.row(pod)["waiting"] == 3
    assert waits[0] <= 2 * DEFAULT_INTERVAL
    assert min(waits[1:3]) > 9 * DEAR_PAGE / DEAR_SHARE
    told = [record.message for record in caplog.records]
    assert told == [f"the page of {pod.address} is dear: asking it more rarely"]


def test_stretch() -> None:
    assert stretch(0.2, 0.99 * DEAR_PAGE) == 0.2
    assert stretch(0.2, DEAR_PAGE) == DEAR_PAGE / DEAR_SHARE
    assert stretch(10.0, DEAR_PAGE) == 10.0
    assert stretch(0.2, 1e9) == MAX_STRETCH


async def test_an_address_that_is_none(bench: Bench) -> None:
    pod = Pod("[::1:80")
    bench.set_pods(pod)
    await bench.beats.beat(pod)
    assert bench.counts.failures == ["connect"]


async def test_https_is_spoken_where_asked_for() -> None:
    bench = Bench(timeout=5.0)
    bench.scraper = Scraper(
        bench.store,
        lambda _: VLLM,
        scheme="https",
        observer=bench.counts,
        clock=bench.beats.clock,
        sleep=bench.beats.sleep,
    )
    async with serve(page) as pod, bench.scraper:
        bench.set_pods(pod)
        await bench.beats.beat(pod)
    # The server speaks plain HTTP.
    assert bench.counts.failures == ["connect"]


async def test_a_slow_pod_delays_nobody(bench: Bench) -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: web.Request) -> web.StreamResponse:
        arrived.set()
        await go_on.wait()
        return web.Response(body=PAGE)

    async with serve(slow) as pod, serve(page) as other:
        bench.set_pods(pod, other)
        await bench.beats.wake(pod)
        await arrived.wait()
        for _ in range(5):
            await bench.beats.beat(other)
        assert len(bench.counts.seconds) == 5
        go_on.set()
        await bench.beats.asleep(pod)
        assert len(bench.counts.seconds) == 6


async def test_age_and_in_flight_are_those_of_the_asking(bench: Bench) -> None:
    async def handler(_: web.Request) -> web.StreamResponse:
        bench.beats.now += 0.5
        for _n in range(4):
            bench.store.acquire(pod, 10, bench.beats.now)
        return web.Response(body=PAGE)

    async with serve(handler) as pod:
        bench.set_pods(pod)
        bench.store.acquire(pod, 10, bench.beats.now)
        await bench.beats.beat(pod)
    assert bench.row(pod)["scrape_age"] == 0.5
    # Three on the page, four sent while it was made.
    assert bench.row(pod)["waiting"] == 7
    assert bench.counts.seconds == [0.5]


async def test_a_restart_is_told(bench: Bench) -> None:
    started = 1000

    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(text=f"process_start_time_seconds {started}\nvllm:num_requests_waiting 1\n")

    async with serve(handler) as pod:
        bench.set_pods(pod)
        for _ in range(2):
            await bench.beats.beat(pod)
        assert bench.left == []
        started = 2000
        await bench.beats.beat(pod)
        assert bench.left == [pod]


class TestReady:
    async def test_once_every_pod_was_tried(self, bench: Bench) -> None:
        async with serve(page) as pod, serve(answer(status=500)) as broken:
            bench.set_pods(pod, broken)
            assert not bench.scraper.ready.is_set()
            await bench.beats.beat(pod)
            assert not bench.scraper.ready.is_set()
            await bench.beats.beat(broken)
            assert bench.scraper.ready.is_set()
            bench.set_pods(pod, broken, Pod("127.0.0.1:1"))
            assert bench.scraper.ready.is_set()

    async def test_not_before_the_pods_are_known(self, bench: Bench) -> None:
        assert not bench.scraper.ready.is_set()
        bench.set_pods()
        bench.scraper.set_pods([])
        assert bench.scraper.ready.is_set()

    async def test_a_pod_that_left_is_not_waited_for(self, bench: Bench) -> None:
        async with serve(page) as pod, serve(page) as other:
            bench.set_pods(pod, other)
            await bench.beats.beat(pod)
            bench.set_pods(pod)
            assert bench.scraper.ready.is_set()


class TestPods:
    async def test_a_pod_that_left_is_not_scraped(self, bench: Bench) -> None:
        asked = asyncio.Event()

        async def handler(_: web.Request) -> web.StreamResponse:
            asked.set()
            return await hang(_)

        async with serve(handler) as pod, serve(page) as other:
            bench.set_pods(pod, other)
            await bench.beats.wake(pod)
            await asked.wait()
            bench.set_pods(other)
            for _ in range(2):
                await bench.beats.beat(other)
            assert [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("scrape")] == [
                f"scrape {other.address}"
            ]
            assert bench.counts.failures == []

    async def test_a_pod_that_stays_goes_on(self, bench: Bench) -> None:
        async with serve(page) as pod, serve(page) as other:
            bench.set_pods(pod)
            await bench.beats.beat(pod)
            bench.set_pods(other, pod)
            assert await bench.beats.asleep(pod) == pytest.approx(DEFAULT_INTERVAL, abs=FIRST_SPREAD)
            await bench.beats.beat(other)
            await bench.beats.beat(pod)
            assert bench.row(pod)["waiting"] == bench.row(other)["waiting"] == 3

    async def test_a_pod_that_returns_is_scraped_again(self, bench: Bench) -> None:
        async with serve(page) as pod:
            bench.set_pods(pod)
            await bench.beats.beat(pod)
            bench.set_pods()
            bench.set_pods(pod)
            await bench.beats.beat(pod)
            assert len(bench.counts.seconds) == 2


class TestPace:
    async def test_first_scrapes_are_spread_and_always_alike(self) -> None:
        pods = [Pod(f"127.0.0.1:{port}") for port in range(1, 40)]
        waits: list[list[float]] = []
        for _ in range(2):
            bench = Bench()
            async with bench.scraper:
                bench.set_pods(*pods)
                waits.append([await bench.beats.asleep(pod) for pod in pods])
        assert waits[0] == waits[1]
        assert 0 <= min(waits[0]) < FIRST_SPREAD / 5
        assert FIRST_SPREAD * 4 / 5 < max(waits[0]) < FIRST_SPREAD
        assert len(set(waits[0])) == len(pods)

    async def test_a_long_interval_does_not_delay_the_first_scrape(self) -> None:
        bench = Bench(interval=60.0)
        async with bench.scraper:
            bench.set_pods(Pod("127.0.0.1:1"))
            assert await bench.beats.asleep(Pod("127.0.0.1:1")) < FIRST_SPREAD

    async def test_beats_are_kept_and_skipped_but_never_shifted(self) -> None:
        bench, took = Bench(interval=1.0, timeout=5.0), 0.0

        async def handler(_: web.Request) -> web.StreamResponse:
            bench.beats.now += took
            return web.Response(body=PAGE)

        async with serve(handler) as pod, bench.scraper:
            bench.set_pods(pod)
            first = bench.beats.now + await bench.beats.asleep(pod)
            for cost, beats in ((0.0, 1), (0.25, 1), (0.75, 1), (1.25, 2), (3.5, 4), (0.0, 1)):
                took = cost
                bench.beats.now = due = bench.beats.now + await bench.beats.asleep(pod)
                await bench.beats.beat(pod)
                wait = await bench.beats.asleep(pod)
                assert bench.beats.now + wait == pytest.approx(due + beats)
            assert (bench.beats.now + wait - first) % 1.0 == pytest.approx(0.0, abs=1e-6)

    async def test_failures_stretch_the_interval_and_success_ends_that(self, bench: Bench) -> None:
        status = 500

        async def handler(_: web.Request) -> web.StreamResponse:
            return web.Response(status=status, body=PAGE)

        async with serve(handler) as pod:
            bench.set_pods(pod)
            bench.beats.now += await bench.beats.asleep(pod)
            waits = []
            for _ in range(6):
                waits.append(await bench.beats.beat(pod))
                bench.beats.now += waits[-1]
            assert waits == pytest.approx([0.2, 0.4, 0.8, 1.0, 1.0, 1.0])
            status = 200
            assert await bench.beats.beat(pod) == pytest.approx(0.2)

    @pytest.mark.parametrize(
        ("interval", "failures", "expected"),
        [(0.2, 0, 0.2), (0.2, 1, 0.2), (0.2, 2, 0.4), (0.2, 10**9, MAX_BACKOFF), (5.0, 0, 5.0), (5.0, 9, 5.0)],
    )
    def test_backoff(self, interval: float, failures: int, expected: float) -> None:
        assert backoff(interval, failures) == expected


async def test_an_observer_that_raises_does_not_end_the_scraping(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scraped(seconds: float) -> None:
        raise ZeroDivisionError

    async with serve(page) as pod:
        bench.set_pods(pod)
        with monkeypatch.context() as patch:
            patch.setattr(bench.counts, "scraped", scraped)
            await bench.beats.beat(pod)
        assert f"scrape of {pod.address} broke" in caplog.text
        await bench.beats.beat(pod)
        assert len(bench.counts.seconds) == 1


async def test_a_page_of_another_engine_is_told_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    text = "other 1\n"

    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(text=text)

    async with serve(handler) as pod:
        bench.set_pods(pod)
        for shown in ("other 1\n", "", "vllm:num_requests_waiting 1\n", "other 1\n"):
            text = shown
            await bench.beats.beat(pod)
    told = f"{pod.address} has none of the metrics of vllm on /metrics"
    assert [record.message for record in caplog.records] == [told, told]
    assert bench.counts.failures == []


async def test_with_the_real_clock() -> None:
    store, enough = PodStore(2.0), asyncio.Event()
    asked = 0

    async def handler(_: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if asked == 5:
            enough.set()
        return web.Response(body=PAGE)

    async with serve(handler) as pod, Scraper(store, lambda _: VLLM, interval=0.01) as scraper:
        scraper.set_pods([pod])
        await enough.wait()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_leaving_without_having_entered_does_nothing() -> None:
    await Scraper(PodStore(2.0), lambda _: VLLM).__aexit__(None, None, None)
