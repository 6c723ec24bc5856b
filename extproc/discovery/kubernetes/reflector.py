"""Keeps a store equal to what the API server has: list, watch, resume, and list again when it has to be."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic

import aiohttp
import msgspec

from extproc.discovery.contact import Contact, Reason
from extproc.discovery.kubernetes.api import ApiServer, Refused, read_body
from extproc.discovery.kubernetes.credentials import CredentialsError
from extproc.discovery.kubernetes.failures import reason_and_words
from extproc.discovery.kubernetes.store import BadAnswer, Lines, ObjectKey, Store, T, read_page

log = logging.getLogger(__name__)

#: Objects on a page of a list: as kubectl and client-go have it.
PAGE = 500
#: Bytes of a page: 500 pods of 20 KB are 10 MB, and few have more.
MAX_PAGE = 64 << 20
#: Seconds after which the API server is asked to end a watch, drawn anew each time so that many do not end together.
WATCH_SECONDS = (240, 480)
#: Seconds without a byte until a watch is taken for dead. A bookmark comes about once a minute.
WATCH_SILENCE = 90.0
#: Seconds without a byte of a list.
LIST_SILENCE = 30.0
#: Seconds to the next try: doubled each time, and up to half less by chance.
MIN_BACKOFF, MAX_BACKOFF = 0.2, 5.0
#: Seconds. A watch that ends sooner, as if it was meant to, is a failure: or else we would ask without pause.
SHORT_WATCH = 1.0
#: Tries in a row from one version that bring nothing, until everything is listed again. A busy API server
#: reports so, and is to be believed. A server whose data were restored from a backup does not know our version, and may
#: be silent about it (measured with 1.20: the server accepts the watch and sends nothing, bookmarks included).
BARREN = 3


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """What to list and watch."""

    #: For people.
    name: str
    path: str
    #: Selectors.
    parameters: Mapping[str, str] = msgspec.field(default_factory=dict)
    #: What a 404 means, for people. Empty: nothing more than that.
    missing: str = ""


class Reflector(Generic[T]):
    """Lists and watches one resource, whatever happens. What was known stays known while the API server is away.

    Args:
        api: an entered one.
        resource: what to watch.
        kind: the type of its objects.
        changed: is called after the first list, and whenever objects may have changed.
        rng: spreads watches and tries.
        contact: records answers and failures.
        sleep: waits between tries.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        api: ApiServer,
        resource: Resource,
        kind: type[T],
        changed: Callable[[], None],
        *,
        rng: random.Random,
        contact: Contact | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        watch_silence: float = WATCH_SILENCE,
        list_silence: float = LIST_SILENCE,
        page: int = PAGE,
        max_page: int = MAX_PAGE,
    ) -> None:
        self._api = api
        self._list_silence = list_silence
        self._page = page
        self._max_page = max_page
        self._resource = resource
        self._changed = changed
        self._rng = rng
        self._sleep = sleep
        self._clock = clock
        self._watch_silence = watch_silence
        self.store = Store(kind, self._complain)
        self._relist = True
        #: Failures in a row, and answers to a watch that brought no event.
        self._failures = self._barren = 0
        #: Whether the API server could not be reached, or was busy, since a watch was last accepted.
        self._away = False
        self._contact = contact or Contact(resource.name, clock)
        self._objection: tuple[Reason, str] | None = None
        self._complaint = ""
        #: When the watch that runs, or ended last, was accepted; None before that.
        self._opened: float | None = None

    async def run(self) -> None:
        while True:
            self._opened = None
            try:
                if self._relist or self._barren >= BARREN:
                    await self._list()
                await self._watch()
            except BadAnswer as error:
                self._relist = True
                self._failed(error)
            except Refused as error:
                self._barren += 1
                busy = error.status == 429 or error.status >= 500
                self._relist = self._relist or not busy
                self._away = self._away or busy
                self._failed(error)
            except (aiohttp.ClientError, OSError, CredentialsError) as error:
                self._away = True
                self._failed(error)
            else:
                if self._lived():
                    self._failures = 0
                    continue
                self._failed(BadAnswer("the watch ended at once"))
            await self._sleep(backoff(self._failures, self._rng))

    async def _list(self) -> None:
        known: dict[ObjectKey, T] = {}
        more = ""
        while True:
            parameters = {**self._resource.parameters, "limit": str(self._page)}
            if more:
                parameters["continue"] = more
            async with self._api.get(self._resource.path, parameters, read_timeout=self._list_silence) as response:
                body = await read_body(response, self._max_page)
            if body is None:
                raise BadAnswer(f"a page of a list of more than {self._max_page} bytes")
            page = read_page(body)
            known |= self.store.read(page.items or ())
            more = page.metadata.more
            if not more or len(known) > self.store.limit:
                break
        self.store.replace(known, page.metadata.resource_version)
        self._relist = False
        self._barren = 0
        self._changed()

    async def _watch(self) -> None:
        parameters = {
            **self._resource.parameters,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self.store.version,
            "timeoutSeconds": str(self._rng.randint(*WATCH_SECONDS)),
        }
        lines = Lines()
        async with self._api.get(self._resource.path, parameters, read_timeout=self._watch_silence) as response:
            self._answered()
            async for data in response.content.iter_any():
                # Called once for all events that arrived together: a deployment's change is many events.
                if self._apply(lines.feed(data)):
                    self._changed()

    def _apply(self, lines: list[bytes]) -> bool:
        changed = False
        try:
            for line in lines:
                changed |= self.store.apply(line)
                self._failures = self._barren = 0
            if lines:
                self._contact.alive()
        except BadAnswer:
            if changed:
                self._changed()
            raise
        return changed

    def judge(self, objection: tuple[Reason, str] | None) -> None:
        """Why the answer names no pods, or not all; None: nothing is wrong. Called after every change."""
        self._objection = objection
        self._reached()

    def _reached(self) -> bool:
        """The API server has answered. True: an earlier failure was logged."""
        if self._objection is None:
            return self._contact.reached()
        self._contact.alive()
        reason, text = self._objection
        if self._contact.failed(reason, text):
            log.warning("kubernetes: %s", text)
        return False

    def _answered(self) -> None:
        self._opened = self._clock()
        self._barren += 1
        if self._away:
            # It may have forgotten our version meanwhile: that is no reason to wait as long as before.
            self._away = False
            self._failures = 0
        if self._reached():
            log.info("kubernetes: watching %s again", self._resource.name)

    def _lived(self) -> bool:
        return self._opened is not None and self._clock() - self._opened >= SHORT_WATCH

    def _failed(self, error: Exception) -> None:
        self._failures = 1 if self._lived() else self._failures + 1
        reason, text = reason_and_words(error)
        if self._resource.missing and isinstance(error, Refused) and error.status == 404:
            text = f"{text}: {self._resource.missing}"
        # One cut is the usual end of a long connection. Before the first list, somebody waits.
        if self._failures == 1 and self.store.version:
            self._contact.missed(reason)
        elif self._contact.failed(reason, text):
            kept = len(self.store.objects)
            log.warning("kubernetes: cannot watch %s: %s; keeping %d known", self._resource.name, text, kept)

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self._complaint = text
            log.warning("kubernetes: %s: %s", self._resource.name, text)


def backoff(failures: int, rng: random.Random) -> float:
    """Seconds until the next try after so many failures in a row, at least one."""
    # The exponent is bounded because failures are not.
    longest = min(MIN_BACKOFF * 2.0 ** min(failures - 1, 16), MAX_BACKOFF)
    return longest * rng.uniform(0.5, 1.0)
