"""Asks pods for their models, now and then: no client's request waits for that."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from extproc.fetch import FetchError, Origin
from extproc.models.catalogue import Catalogue, listed

#: Seconds between two rounds, and before any pod has answered.
INTERVAL, FIRST_INTERVAL = 10.0, 0.5
#: Seconds for an answer, and its bytes: a server with 1000 adapters lists 300 KB.
TIMEOUT, MAX_PAGE = 2.0, 1 << 20
#: Pods of a pool that are asked in one round: all of a large pool have had their turn after some.
MOST_PODS = 16

log = logging.getLogger(__name__)


class ModelsPoll:
    """Updates a catalogue with the models that the pods of a pool list.

    Args:
        pool: its name.
        scheme: http or https.
        addresses: `ip:port` of its pods now.
        catalogue: receives the models.
    """

    def __init__(self, pool: str, scheme: str, addresses: Callable[[], Sequence[str]], catalogue: Catalogue) -> None:
        self._pool = pool
        self._scheme = scheme
        self._addresses = addresses
        self._catalogue = catalogue
        self._known: dict[str, list[str]] = {}
        self._next = 0

    async def run(self) -> None:
        while True:
            await self.round()
            await asyncio.sleep(INTERVAL if self._known else FIRST_INTERVAL)

    async def round(self) -> None:
        """Asks some pods, one after the other."""
        addresses = self._addresses()
        if not addresses:
            # What was known last stays: the models have not changed because their pods are away.
            return
        start = self._next % len(addresses)
        asked = (*addresses[start:], *addresses[:start])[:MOST_PODS]
        self._next = start + len(asked)
        for address in asked:
            try:
                self._known[address] = await self._ask(address)
            except (FetchError, TimeoutError, ValueError) as error:
                log.debug("models of a pod are not known", extra={"pod": address, "detail": str(error)})
        for address in set(self._known) - set(addresses):
            if len(self._known) > 1:
                del self._known[address]
        if self._known:
            self._catalogue.told(self._pool, _in_order(self._known.values()))

    async def _ask(self, address: str) -> list[str]:
        async with asyncio.timeout(TIMEOUT):
            with Origin(f"{self._scheme}://{address}", (("accept", "application/json"),)) as origin:
                async with origin.get("/v1/models") as answer:
                    if answer.status != 200:
                        raise ValueError(f"status {answer.status}")
                    return listed(await answer.body(MAX_PAGE))


def _in_order(lists: Iterable[list[str]]) -> list[str]:
    return [name for names in lists for name in names]
