"""Keeps the key set of an issuer at hand: fetched in the background, never in the way of a request.

One task per source fetches, and nothing else does, so there is one fetch at a time. Requests only ask for one.
"""

import asyncio
import codecs
import logging
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from extproc.auth.base import WELL_KNOWN, AuthPolicy, Issuer, Pending, check_jwks_uri
from extproc.auth.encoding import json_object
from extproc.auth.freshness import lifetime, retry_delay
from extproc.auth.keys import MAX_JWKS, JwksError, KeySet, read_jwks
from extproc.fetch import FetchError, Origin
from extproc.process.background import Background

#: Seconds for a fetch, from the look-up of the name to the last byte. Requests may be waiting for it.
FETCH_TIMEOUT = 5.0
#: Seconds between two fetches that clients can cause, whatever they send: else they could use us to flood a provider.
COOLDOWN = 10.0
#: Seconds between two looks at a file. Kubernetes takes about a minute to bring a changed Secret to a pod anyway.
FILE_POLL = 10.0

logger = logging.getLogger(__name__)

#: Wait until the event is set, or for that many seconds.
Nap = Callable[[asyncio.Event, float], Awaitable[None]]


async def nap(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


class JwksSource:
    """The key set of one issuer. A `KeySource`, once `start` was called; `stop` ends it.

    Args:
        issuer: whose keys.
        max_stale: seconds that a set is used after it was fetched, while the provider is down.
        clock: seconds since the epoch; the `now` of the other methods must come from the same clock.
        nap: how to wait.
        fetch_timeout: seconds that a fetch may take.
        background: starts the fetching again where it died.
    """

    def __init__(
        self,
        issuer: Issuer,
        *,
        max_stale: float,
        clock: Callable[[], float] = time.time,
        nap: Nap = nap,
        fetch_timeout: float = FETCH_TIMEOUT,
        background: Background | None = None,
    ) -> None:
        self._background = background or Background()
        self._issuer = issuer
        self._fetch_timeout = fetch_timeout
        uri = urlsplit(issuer.jwks_uri or issuer.oidc_issuer)
        self._path = Path(url2pathname(uri.path)) if uri.scheme == "file" else None
        #: For logs: without the query, which may hold a secret.
        self._name = f"{uri.scheme}://{uri.netloc}{uri.path}"
        self._max_stale = max_stale
        self._clock = clock
        self._nap = nap
        self._task: asyncio.Task[None] | None = None
        #: The latest set that was read, and its text.
        self._keys: KeySet | None = None
        self._data = b""
        #: When it was last known to be the provider's.
        self._fetched_at = 0.0
        self._asked_at: float | None = None
        #: Set while a fetch is wanted that has not begun.
        self._wanted = asyncio.Event()
        #: Set at the end of the fetch that runs, and of the next one to begin.
        self._running: asyncio.Event | None = None
        self._next = asyncio.Event()
        self._first = asyncio.Event()
        #: In a row.
        self._failures = 0
        self._said_stale = False
        #: Fetches begun and failed, ever: for metrics.
        self.fetches = 0
        self.fetch_failures = 0

    async def start(self) -> None:
        """Begin to fetch, at once and for good. Returns immediately; see `ready`. Call it once."""
        self._task = self._background.start("keys", self._run, of=self._name, needed=True)

    async def stop(self) -> None:
        """End it. Keys that are at hand stay usable until they are too old; waiting requests are released."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self._next.set()

    @property
    def ready(self) -> bool:
        """Whether there was ever a usable key set."""
        return self._first.is_set()

    def statistics(self, now: float) -> dict[str, object]:
        """The state for operators: a row for metrics. The age is None before the first set."""
        return {
            "issuer": self._issuer.issuer,
            "keys": len(self._keys or ()),
            "age": max(0.0, now - self._fetched_at) if self._fetched_at else None,
            "usable": self.current(now) is not None,
            "fetches": self.fetches,
            "failures": self.fetch_failures,
        }

    def current(self, now: float) -> KeySet | None:
        return self._keys if self._keys and now - self._fetched_at <= self._max_stale else None

    def refresh(self, now: float) -> Pending | None:
        if self._task is None:
            return None
        # A clock that was set back must not block this until it has caught up.
        if self._asked_at is None or not 0 <= now - self._asked_at < COOLDOWN:
            self._asked_at = now
            self._wanted.set()
        if self._wanted.is_set():
            # Not the fetch that runs, if one does: it may have begun before the key was there.
            return Pending(self._next.wait)
        return None if self._running is None else Pending(self._running.wait)

    async def _run(self) -> None:
        while True:
            self._wanted.clear()
            self._running, self._next = self._next, asyncio.Event()
            try:
                delay = await self._fetch()
            finally:
                self._running.set()
                self._running = None
            await self._nap(self._wanted, delay)

    async def _fetch(self) -> float:
        """Fetch once. Seconds to the next time."""
        self.fetches += 1
        try:
            async with asyncio.timeout(self._fetch_timeout):
                delay = await self._load()
        except (FetchError, JwksError, OSError) as error:
            return self._failed(_said(error, self._fetch_timeout))
        except Exception:
            # A fault of ours must not end the task: keys would silently grow old.
            logger.exception("JWKS of %s: unexpected error", self._name)
            return self._failed("unexpected error")
        self._fetched_at = self._clock()
        self._said_stale = False
        if self._failures:
            logger.info("JWKS of %s: reachable again after %d failures", self._name, self._failures)
            self._failures = 0
        self._first.set()
        return delay

    async def _load(self) -> float:
        """Read the set and take it. Seconds for which it is fresh. Raises JwksError, FetchError and OSError."""
        data, delay = await (self._get() if self._path is None else self._read(self._path))
        if self._keys is None or data != self._data:
            # Off the loop: a hundred keys take some milliseconds.
            self._take(await asyncio.to_thread(read_jwks, data), data)
        if not self._keys:
            raise JwksError("no usable key in it")
        return delay

    def _take(self, keys: KeySet, data: bytes) -> None:
        # A set without a usable key counts: a provider that takes its keys back must be obeyed.
        self._keys, self._data = keys, data
        logger.info("JWKS of %s: %d usable keys: %.500r", self._name, len(keys), keys.kids)
        for ignored in keys.ignored:
            logger.warning("JWKS of %s: key %.100r ignored: %s", self._name, ignored.kid, ignored.why)

    def _failed(self, why: str) -> float:
        self.fetch_failures += 1
        self._failures += 1
        if self._failures == 1:
            logger.warning("JWKS of %s: %s; retrying", self._name, why)
        if self._keys and not self._said_stale and self.current(self._clock()) is None:
            self._said_stale = True
            logger.error("JWKS of %s: keys are older than %.0f s: requests are refused", self._name, self._max_stale)
        return retry_delay(self._failures)

    async def _get(self) -> tuple[bytes, float]:
        issuer = self._issuer
        token = None if issuer.token_file is None else await asyncio.to_thread(_read_token, Path(issuer.token_file))
        # Made anew for each fetch: it is one in minutes, and a changed file of authorities is seen.
        tls = await asyncio.to_thread(ssl.create_default_context, cafile=issuer.ca_file)
        # `identity`: the limit is on what is read, and no small answer can grow.
        headers = [("accept", "application/jwk-set+json, application/json"), ("accept-encoding", "identity")]
        if token is not None:
            headers.append(("authorization", f"Bearer {token}"))
        uri = issuer.jwks_uri
        if not uri:
            found, _ = await self._download(issuer.oidc_issuer.rstrip("/") + WELL_KNOWN[0], headers, tls)
            uri = _discovered(found, issuer.oidc_issuer)
        return await self._download(uri, headers, tls)

    async def _download(self, uri: str, headers: Sequence[tuple[str, str]], tls: ssl.SSLContext) -> tuple[bytes, float]:
        """The answer's body, and seconds for which it is fresh."""
        # No redirects: the keys to trust must come from the address in the configuration.
        parts = urlsplit(uri)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        with Origin(uri, headers, tls=tls) as origin:
            async with origin.get(target) as answer:
                if answer.status != 200:
                    raise JwksError(f"status {answer.status}")
                data = await answer.body(MAX_JWKS)
                return data, lifetime(answer.header("cache-control"), answer.header("age"), self._max_stale)

    async def _read(self, path: Path) -> tuple[bytes, float]:
        # Read whole rather than watched: it is small, and a changed text cannot hide behind equal times and sizes.
        return await asyncio.to_thread(_read_file, path), min(FILE_POLL, self._max_stale / 2)


@asynccontextmanager
async def key_sources(
    policy: AuthPolicy, background: Background | None = None
) -> AsyncIterator[tuple[JwksSource, ...]]:
    """The running sources of a policy's issuers, in their order, as `Authenticator` takes them."""
    async with AsyncExitStack() as stack:
        sources = [
            JwksSource(issuer, max_stale=policy.jwks_max_stale, background=background) for issuer in policy.issuers
        ]
        for source in sources:
            await source.start()
            stack.push_async_callback(source.stop)
        yield tuple(sources)


def _read_file(path: Path) -> bytes:
    if not path.is_file():
        # Also a pipe or a device, which would block or never end.
        raise JwksError("no such file")
    with path.open("rb") as file:
        return file.read(MAX_JWKS + 1)


def _read_token(path: Path) -> str:
    token = _read_file(path)[:MAX_JWKS].decode("ascii", "replace").strip()
    if not token or not token.isprintable() or " " in token:
        raise JwksError("the token file holds no token")
    return token


def _discovered(data: bytes, issuer: str) -> str:
    """Where the key set is, by a discovery document. Raises JwksError."""
    try:
        document = json_object(data.removeprefix(codecs.BOM_UTF8))
    except ValueError:
        raise JwksError("the discovery document is not a JSON object") from None
    if document.get("issuer") != issuer:
        # OpenID Connect Discovery 1.0 section 4.3: "MUST exactly match".
        raise JwksError(f"the discovery document is of the issuer {str(document.get('issuer'))!r:.200}")
    uri = document.get("jwks_uri")
    if not isinstance(uri, str) or not uri.startswith(("https://", f"{urlsplit(issuer).scheme}://")):
        raise JwksError("the discovery document has no jwks_uri of https")
    try:
        check_jwks_uri(uri)
    except ValueError as error:
        raise JwksError(f"the discovery document has no jwks_uri that can be used: {error}") from None
    return uri


def _said(error: Exception, fetch_timeout: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {fetch_timeout:g} s"
    # What others say is quoted and cut: it may repeat what a server sent.
    return str(error) if isinstance(error, JwksError) else f"{type(error).__name__}: {str(error)!r:.300}"
