import asyncio
import gzip
import logging
import re
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web
from support.jwks_server import JwksServer, says
from support.signed_tokens import AUDIENCES, ISSUER, b64, claims, json_text, jwk_set, jwks, public_jwk, sign

from extproc.auth import jwks as jwks_module
from extproc.auth.base import AuthPolicy, Identity, Issuer, Pending
from extproc.auth.jwks import COOLDOWN, FILE_POLL, JwksSource, key_sources, nap
from extproc.auth.jwt import Authenticator
from extproc.auth.keys import MAX_JWKS
from extproc.errors import Refusal

OLD = jwk_set(public_jwk("rsa"))
NEW = jwk_set(public_jwk("rsa"), public_jwk("p256"))
DAY = 86400.0


class FakeClock:
    """Time that passes only when a test says so."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self._due: float | None = None
        self._napping = asyncio.Event()
        self._woken = asyncio.Event()

    def __call__(self) -> float:
        return self.now

    async def nap(self, event: asyncio.Event, seconds: float) -> None:
        self._due = self.now + seconds
        self._woken.clear()
        self._napping.set()
        waits = [asyncio.create_task(event.wait()), asyncio.create_task(self._woken.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._napping.clear()
            for task in waits:
                task.cancel()

    async def settled(self) -> float:
        """When the source has fetched and waits: seconds to its next fetch."""
        await self._napping.wait()
        assert self._due is not None
        return self._due - self.now

    async def advance(self, seconds: float) -> None:
        """Let time pass, then let the source do what is due by then."""
        await self.settled()
        self.now += seconds
        if self._due is not None and self.now >= self._due:
            self._napping.clear()
            self._woken.set()
            await self.settled()


@asynccontextmanager
async def source_at(
    uri: str, clock: FakeClock, *, ca_file: str | None = None, max_stale: float = DAY, **more: Any
) -> AsyncIterator[JwksSource]:
    issuer = Issuer(ISSUER, AUDIENCES, uri, ca_file)
    source = JwksSource(issuer, max_stale=max_stale, clock=clock, nap=clock.nap, **more)
    await source.start()
    try:
        yield source
    finally:
        await source.stop()


async def asked(source: JwksSource, clock: FakeClock) -> None:
    """Ask for newer keys and wait for them."""
    pending = source.refresh(clock.now)
    assert isinstance(pending, Pending)
    await pending.wait()
    await clock.settled()


def authenticator(source: JwksSource) -> Authenticator:
    return Authenticator(AuthPolicy((Issuer(ISSUER, AUDIENCES, "https://issuer.test/"),)), [source])


def bearer(clock: FakeClock) -> bytes:
    return f"Bearer {sign('ES256', 'p256', claims(clock.now, exp=clock.now + 7200))}".encode()


async def test_it_is_ready_with_the_first_set() -> None:
    clock = FakeClock()
    async with JwksServer(says(OLD)) as server:
        source = JwksSource(Issuer(ISSUER, (), server.uri), max_stale=DAY, clock=clock, nap=clock.nap)
        assert [source.ready, source.current(clock.now), source.refresh(clock.now)] == [False, None, None]
        await source.start()
        await source._first.wait()
        assert source.ready
        keys = source.current(clock.now)
        assert keys is not None
        assert keys.kids == ("rsa",)
        assert source._fetched_at == clock.now
        await source.stop()
        # What is at hand stays usable, and nobody fetches any more.
        assert source.current(clock.now) is keys
        assert source.refresh(clock.now + 1000) is None
    assert (source.fetches, source.fetch_failures, server.requests) == (1, 0, 1)


async def test_what_metrics_show() -> None:
    clock = FakeClock()
    async with JwksServer(says(b"", status=500)) as server, source_at(server.uri, clock, max_stale=60) as source:
        row = {"issuer": ISSUER, "keys": 0, "age": None, "usable": False, "fetches": 0, "failures": 0}
        assert source.statistics(clock.now) == row
        await clock.settled()
        assert source.statistics(clock.now) == {**row, "fetches": 1, "failures": 1}
        server.answer = says(OLD)
        await clock.advance(await clock.settled())
        fetched = {**row, "keys": 1, "usable": True, "fetches": 2, "failures": 1}
        assert source.statistics(source._fetched_at + 60) == {**fetched, "age": 60.0}
        assert source.statistics(source._fetched_at + 61) == {**fetched, "age": 61.0, "usable": False}
        # A clock that was set back makes nothing younger than new.
        assert source.statistics(source._fetched_at - 5) == {**fetched, "age": 0.0}


async def test_it_tries_again_slower_and_slower_until_the_first_set() -> None:
    clock = FakeClock()
    async with JwksServer(says(b"", status=500)) as server, source_at(server.uri, clock) as source:
        delays = []
        for _ in range(7):
            delays.append(await clock.settled())
            await clock.advance(delays[-1])
        assert (delays, source.ready) == ([1, 2, 4, 8, 16, 30, 30], False)
        server.answer = says(OLD)
        await clock.advance(30)
        assert source.ready
        assert (source.fetches, source.fetch_failures) == (9, 8)
        assert await clock.settled() == 300


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({}, 300), ({"cache-control": "max-age=1000"}, 1000), ({"cache-control": "max-age=1000", "age": "400"}, 600)],
)
async def test_it_fetches_again_when_the_provider_says(headers: dict[str, str], seconds: float) -> None:
    clock = FakeClock()
    async with JwksServer(says(OLD, headers=headers)) as server, source_at(server.uri, clock) as source:
        assert await clock.settled() == seconds
        await clock.advance(seconds - 1)
        assert server.requests == 1
        keys = source.current(clock.now)
        server.answer = says(NEW)
        await clock.advance(1)
        assert server.requests == 2
        newer = source.current(clock.now)
        assert newer is not keys
        assert newer is not None
        assert newer.knows("p256")


async def test_the_same_text_is_the_same_set() -> None:
    clock = FakeClock()
    async with JwksServer(says(OLD)) as server, source_at(server.uri, clock) as source:
        await clock.settled()
        keys = source.current(clock.now)
        await clock.advance(300)
        assert server.requests == 2
        assert source.current(clock.now) is keys
        assert source._fetched_at == clock.now


async def test_a_new_kid_is_fetched_at_once() -> None:
    clock = FakeClock()
    async with JwksServer(says(OLD)) as server, source_at(server.uri, clock) as source:
        await clock.settled()
        auth = authenticator(source)
        server.answer = says(NEW)
        found = auth.check(bearer(clock), 1, now=clock.now)
        assert isinstance(found, Pending)
        await found.wait()
        assert isinstance(auth.check(bearer(clock), 1, now=clock.now, final=True), Identity)
        assert server.requests == 2


async def test_a_flood_of_unknown_kids_makes_two_fetches() -> None:
    clock = FakeClock()
    async with JwksServer(says(OLD)) as server, source_at(server.uri, clock) as source:
        await clock.settled()
        auth = authenticator(source)
        _, body, tail = bearer(clock).split(b".")
        waiting: list[Pending] = []
        refused: list[str] = []
        for number in range(10_000):
            header = b64(json_text({"alg": "ES256", "kid": f"kid-{number}"})).encode()
            try:
                found = auth.check(b".".join([b"Bearer " + header, body, tail]), 1, now=clock.now)
            except Refusal as error:
                refused.append(error.detail)
            else:
                assert isinstance(found, Pending)
                waiting.append(found)
            if number == 5_000:
                # Those so far wait for one fetch; the rest come after it.
                await asyncio.gather(*(pending.wait() for pending in waiting))
        assert (len(waiting), refused) == (5_001, ["unknown_key"] * 4_999)
        assert server.requests == source.fetches == 2
        clock.now += COOLDOWN
        assert isinstance(auth.check(bearer(clock), 1, now=clock.now), Pending)


async def test_asking_while_a_fetch_runs_waits_for_one_that_begins_later() -> None:
    clock, arrived, go = FakeClock(), asyncio.Event(), asyncio.Event()

    async def held(_: web.Request) -> web.Response:
        body = OLD if server.requests == 1 else NEW
        arrived.set()
        await go.wait()
        return web.Response(body=body)

    async with JwksServer(held) as server, source_at(server.uri, clock) as source:
        await arrived.wait()
        first, second = source.refresh(clock.now), source.refresh(clock.now)
        assert first is not None
        assert second is not None
        go.set()
        await asyncio.gather(first.wait(), second.wait())
        keys = source.current(clock.now)
        assert keys is not None
        assert keys.knows("p256")
        assert server.requests == 2


async def test_asking_again_while_the_asked_for_fetch_runs_waits_for_it() -> None:
    clock, arrived, go = FakeClock(), asyncio.Event(), asyncio.Event()

    async def held(_: web.Request) -> web.Response:
        if server.requests == 2:
            arrived.set()
            await go.wait()
        return web.Response(body=NEW)

    async with JwksServer(held) as server, source_at(server.uri, clock) as source:
        await clock.settled()
        first = source.refresh(clock.now)
        await arrived.wait()
        second = source.refresh(clock.now)
        assert first is not None
        assert second is not None
        waits = [asyncio.create_task(pending.wait()) for pending in (first, second)]
        go.set()
        await asyncio.gather(*waits)
        assert server.requests == 2


async def test_a_waiter_that_is_cancelled_takes_nobody_with_it() -> None:
    clock = FakeClock()
    async with JwksServer(says(NEW)) as server, source_at(server.uri, clock) as source:
        await clock.settled()
        pending = source.refresh(clock.now)
        assert pending is not None
        one, two = asyncio.create_task(pending.wait()), asyncio.create_task(pending.wait())
        await asyncio.sleep(0)
        one.cancel()
        await two
        assert one.cancelled() or one.cancelling()
        assert server.requests == 2


async def test_a_clock_that_is_set_back_does_not_block_asking() -> None:
    clock = FakeClock()
    async with JwksServer(says(OLD)) as server, source_at(server.uri, clock) as source:
        await clock.settled()
        await asked(source, clock)
        assert source.refresh(clock.now) is None
        clock.now -= 3600
        await asked(source, clock)
        assert server.requests == 3


async def test_stop_lets_go_whoever_waits() -> None:
    clock, arrived = FakeClock(), asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        arrived.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with JwksServer(hang) as server, source_at(server.uri, clock) as source:
        await arrived.wait()
        pending = source.refresh(clock.now)
        assert pending is not None
        waits = asyncio.create_task(pending.wait())
        await asyncio.sleep(0)
        await source.stop()
        await waits
        await source.stop()


async def test_keys_are_kept_while_the_provider_is_down_and_then_refused() -> None:
    clock = FakeClock()
    async with JwksServer(says(NEW)) as server, source_at(server.uri, clock, max_stale=3600) as source:
        await clock.settled()
        auth, token = authenticator(source), bearer(clock)
        for status in (500, 404, 302):
            server.answer = says(b"", status=status, headers={"location": "/elsewhere"})
            await clock.advance(300)
            assert isinstance(auth.check(token, 1, now=clock.now), Identity)
        while clock.now - source._fetched_at < 3590:
            await clock.advance(await clock.settled())
        assert isinstance(auth.check(token, 1, now=source._fetched_at + 3600), Identity)
        await clock.advance(await clock.settled())
        # Known or not: without keys nothing passes, once the one fetch that is allowed has failed too.
        found = auth.check(bearer(clock), 1, now=clock.now)
        assert isinstance(found, Pending)
        await found.wait()
        for _ in range(2):
            with pytest.raises(Refusal, match="keys_unavailable") as caught:
                auth.check(bearer(clock), 1, now=clock.now, final=True)
            assert caught.value.status == 503
        server.answer = says(NEW)
        clock.now += COOLDOWN
        await asked(source, clock)
        assert isinstance(auth.check(bearer(clock), 1, now=clock.now), Identity)


async def rubbish_drip(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    try:
        while True:
            await response.write(b" " * 65536)
    except OSError:
        return response


async def cut_short(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-length": str(len(NEW))})
    await response.prepare(request)
    await response.write(NEW[:100])
    assert request.transport is not None
    request.transport.abort()
    return response


async def gzipped(_: web.Request) -> web.StreamResponse:
    return web.Response(body=gzip.compress(NEW), headers={"content-encoding": "gzip"})


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (says(b"<html><body>Sign in</body></html>", headers={"content-type": "text/html"}), "not a JSON object"),
        (says(b""), "not a JSON object"),
        (says(b"{}"), 'no list "keys"'),
        (says(NEW[:-1]), "not a JSON object"),
        (says(NEW, status=500), "status 500"),
        (says(NEW, status=203), "status 203"),
        (says(NEW, status=302, headers={"location": "/other"}), "status 302"),
        (says(b'{"keys": [' + b" " * MAX_JWKS), "more than"),
        (rubbish_drip, "more than"),
        (cut_short, "FetchError"),
        (gzipped, "not a JSON object"),
        (says(jwk_set(*[public_jwk("p256")] * 101)), "more than 100"),
    ],
)
async def test_an_unreadable_answer_keeps_the_old_set(
    answer: Callable[[web.Request], object], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    async with JwksServer(says(OLD)) as server, source_at(server.uri, clock) as source:
        await clock.settled()
        keys = source.current(clock.now)
        server.answer = answer  # type: ignore[assignment]  # an answer of some kind
        with caplog.at_level(logging.INFO):
            for _ in range(3):
                await clock.advance(await clock.settled())
        assert source.current(clock.now) is keys
        assert source.fetch_failures == 3
        # Once, however often it fails …
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert why in caplog.text
        caplog.clear()
        server.answer = says(OLD)
        with caplog.at_level(logging.INFO):
            await clock.advance(await clock.settled())
            await clock.advance(await clock.settled())
        # … and once when it is over.
        assert [record.levelname for record in caplog.records] == ["INFO"]


async def test_a_provider_that_hangs_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    async def hang(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    clock = FakeClock()
    async with JwksServer(hang) as server, source_at(server.uri, clock, fetch_timeout=0.05) as source:
        assert await clock.settled() == 1
        assert not source.ready
    assert "no answer within" in caplog.text


async def test_a_provider_that_is_not_there(caplog: pytest.LogCaptureFixture) -> None:
    async with JwksServer(says(OLD)) as server:
        pass
    clock = FakeClock()
    async with source_at(f"{server.uri}?secret=sesame", clock) as source:
        assert await clock.settled() == 1
        assert not source.ready
    assert "FetchError" in caplog.text
    assert "sesame" not in caplog.text


async def test_a_set_without_usable_keys_takes_the_old_ones_back(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    async with JwksServer(says(NEW)) as server, source_at(server.uri, clock) as source:
        await clock.settled()
        server.answer = says(b'{"keys": []}')
        await clock.advance(300)
        assert source.current(clock.now) is None
        assert "no usable key" in caplog.text
        # It is asked again soon, and does not have to change its text to be doubted.
        assert await clock.settled() == 1
        await clock.advance(1)
        assert source.current(clock.now) is None
        assert await clock.settled() == 2
        server.answer = says(NEW)
        await clock.advance(2)
        assert source.current(clock.now) is not None


async def test_ignored_keys_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    async with JwksServer(says(jwks())) as server, source_at(server.uri, clock) as source:
        await clock.settled()
        await clock.advance(300)
        assert source.ready
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [message.split("key ")[1].split(" ")[0] for message in warned] == ["'enc'", "'weak'", "'k256'", "'oct'"]


async def test_staleness_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    async with JwksServer(says(NEW)) as server, source_at(server.uri, clock, max_stale=60):
        assert await clock.settled() == 30
        server.answer = says(b"", status=500)
        for _ in range(3):
            await clock.advance(31)
        await clock.advance(31)
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "older than 60 s" in errors[0]


async def test_a_fault_of_ours_does_not_end_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: bytes) -> object:
        raise ZeroDivisionError

    clock = FakeClock()
    with monkeypatch.context() as patch:
        patch.setattr(jwks_module, "read_jwks", broken)
        async with JwksServer(says(OLD)) as server, source_at(server.uri, clock) as source:
            assert await clock.settled() == 1
            assert "ZeroDivisionError" in caplog.text
            patch.undo()
            await clock.advance(1)
            assert source.ready


# TLS.


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def server_tls(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return context


async def test_a_private_authority_is_trusted_where_it_is_named(authority: trustme.CA, tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    clock = FakeClock()
    async with (
        JwksServer(says(OLD), server_tls(authority)) as server,
        source_at(server.uri, clock, ca_file=str(ca_file)) as source,
    ):
        await clock.settled()
        assert source.ready


@pytest.mark.parametrize("trusted", [False, True])
async def test_tls_is_verified(
    authority: trustme.CA, tmp_path: Path, trusted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither an unknown authority nor another's name is accepted."""
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    clock = FakeClock()
    async with (
        JwksServer(says(OLD), server_tls(authority, "other.test" if trusted else "127.0.0.1")) as server,
        source_at(server.uri, clock, ca_file=str(ca_file) if trusted else None) as source,
    ):
        await clock.settled()
        assert not source.ready
        assert server.requests == 0
    assert "certificate" in caplog.text


async def test_a_missing_file_of_authorities_is_a_failure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    async with source_at("https://127.0.0.1:9/", clock, ca_file=str(tmp_path / "none.pem")) as source:
        await clock.settled()
        assert not source.ready
    assert "FileNotFoundError" in caplog.text


# Files.


async def test_a_file_is_read_again_when_it_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "key set.json"
    path.write_bytes(OLD)
    clock = FakeClock()
    async with source_at(path.as_uri(), clock) as source:
        assert await clock.settled() == FILE_POLL
        keys = source.current(clock.now)
        await clock.advance(FILE_POLL)
        assert source.current(clock.now) is keys
        path.write_bytes(NEW)
        await clock.advance(FILE_POLL)
        newer = source.current(clock.now)
        assert newer is not None
        assert newer.knows("p256")
        path.unlink()
        await clock.advance(FILE_POLL)
        assert source.current(clock.now) is newer
        assert "no such file" in caplog.text
        path.write_bytes(b" " * (MAX_JWKS + 1))
        await asked(source, clock)
        assert source.current(clock.now) is newer


async def test_a_file_is_read_at_once_for_a_new_kid(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(OLD)
    clock = FakeClock()
    async with source_at(path.as_uri(), clock) as source:
        await clock.settled()
        auth = authenticator(source)
        path.write_bytes(NEW)
        found = auth.check(bearer(clock), 1, now=clock.now)
        assert isinstance(found, Pending)
        await found.wait()
        assert isinstance(auth.check(bearer(clock), 1, now=clock.now, final=True), Identity)


async def test_a_directory_is_no_file(tmp_path: Path) -> None:
    clock = FakeClock()
    async with source_at(tmp_path.as_uri(), clock) as source:
        await clock.settled()
        assert not source.ready


# The whole.


async def test_key_sources_runs_one_for_each_issuer(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(NEW)
    policy = AuthPolicy((Issuer("a", (), path.as_uri()), Issuer("b", (), path.as_uri())))
    async with key_sources(policy) as sources:
        await asyncio.gather(*(source._first.wait() for source in sources))
        assert [source.ready for source in sources] == [True, True]
        assert isinstance(Authenticator(policy, sources), Authenticator)
    assert [source.refresh(0.0) for source in sources] == [None, None]


async def test_not_one_valid_token_is_refused_across_a_rotation() -> None:
    """New key published, then used, then the old one taken away: 1 000 requests, several at once."""
    clock = FakeClock()
    both, new = jwk_set(public_jwk("rsa"), public_jwk("p256")), jwk_set(public_jwk("p256"))
    async with JwksServer(says(OLD)) as server, source_at(server.uri, clock) as source:
        await clock.settled()
        auth = authenticator(source)
        passed = 0

        async def request(number: int) -> None:
            nonlocal passed
            kid, algorithm = ("rsa", "RS256") if number < 500 else ("p256", "ES256")
            token = sign(algorithm, kid, claims(clock.now, jti=str(number % 20)))
            found = auth.check(f"Bearer {token}".encode(), 1, now=clock.now)
            if isinstance(found, Pending):
                await found.wait()
                found = auth.check(f"Bearer {token}".encode(), 1, now=clock.now, final=True)
            assert isinstance(found, Identity)
            passed += 1

        for first in range(0, 1000, 50):
            if first == 450:
                server.answer = says(both)
            if first == 800:
                server.answer = says(new)
            await asyncio.gather(*(request(number) for number in range(first, first + 50)))
            clock.now += 1
        assert passed == 1000


async def test_nap_ends_with_the_event_or_the_time() -> None:
    event = asyncio.Event()
    await nap(event, 0)
    asyncio.get_running_loop().call_soon(event.set)
    await nap(event, 3600)
    assert event.is_set()


@asynccontextmanager
async def discovering(
    server: JwksServer, clock: FakeClock, token_file: Path | None = None
) -> AsyncIterator[JwksSource]:
    base = server.uri.removesuffix("/jwks.json")
    issuer = Issuer(base, AUDIENCES, "", token_file=None if token_file is None else str(token_file), oidc_issuer=base)
    source = JwksSource(issuer, max_stale=DAY, clock=clock, nap=clock.nap)
    await source.start()
    try:
        yield source
    finally:
        await source.stop()


def provider(document: Callable[[str], object], asked: list[tuple[str, str]]) -> Callable[[web.Request], object]:
    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append((request.path, request.headers.get("authorization", "")))
        base = f"http://{request.host}"
        if request.path == "/.well-known/openid-configuration":
            return web.json_response(document(base))
        return web.Response(body=OLD)

    return answer


async def test_a_discovery_document_says_where_the_keys_are(tmp_path: Path) -> None:
    clock, asked = FakeClock(), list[tuple[str, str]]()
    token = tmp_path / "token"
    token.write_text("first\n")
    answer = provider(lambda base: {"issuer": base, "jwks_uri": f"{base}/openid/v1/jwks"}, asked)
    async with JwksServer(answer) as server, discovering(server, clock, token) as source:  # type: ignore[arg-type]
        await clock.settled()
        assert len(source.current(clock.now) or ()) == 1
        paths = ["/.well-known/openid-configuration", "/openid/v1/jwks"]
        assert asked == [(path, "Bearer first") for path in paths]
        # Tokens of service accounts are renewed: the file is read for each fetch.
        token.write_text("second")
        await clock.advance(DAY)
        assert asked[2:] == [(path, "Bearer second") for path in paths]


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (lambda base: {"issuer": f"{base}/", "jwks_uri": f"{base}/k"}, "is of the issuer"),
        (lambda base: {"jwks_uri": f"{base}/k"}, "is of the issuer"),
        (lambda base: {"issuer": base}, "no jwks_uri of https"),
        (lambda base: {"issuer": base, "jwks_uri": 5}, "no jwks_uri of https"),
        (lambda base: {"issuer": base, "jwks_uri": "file:///etc/keys"}, "no jwks_uri of https"),
        (
            lambda base: {"issuer": base, "jwks_uri": f"{base}/.well-known/openid-configuration"},
            "cannot be used|can be used",
        ),
        (lambda _base: ["no object"], "not a JSON object"),
    ],
)
async def test_discovery_documents_that_are_not_believed(
    document: Callable[[str], object], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock, asked = FakeClock(), list[tuple[str, str]]()
    with caplog.at_level(logging.WARNING):
        answer = provider(document, asked)
        async with JwksServer(answer) as server, discovering(server, clock) as source:  # type: ignore[arg-type]
            await clock.settled()
            assert not source.ready
            assert [path for path, _ in asked] == ["/.well-known/openid-configuration"]
    assert any(re.search(why, record.getMessage()) for record in caplog.records)


@pytest.mark.parametrize("text", ["", "two words", "a\x00b"])
async def test_a_token_file_without_a_token(text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    token = tmp_path / "token"
    token.write_text(text)
    clock = FakeClock()
    with caplog.at_level(logging.WARNING):
        async with JwksServer(says(OLD)) as server, discovering(server, clock, token) as source:
            await clock.settled()
            assert not source.ready
            assert server.requests == 0
    assert any("holds no token" in record.getMessage() for record in caplog.records)
