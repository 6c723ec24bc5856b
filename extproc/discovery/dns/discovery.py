"""Pods behind a name in the DNS: a headless Service, a list of hosts, the records of a service (SRV)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from extproc.discovery.addresses import IPAddress, forbidden, join, order
from extproc.discovery.base import Publish
from extproc.discovery.contact import Contact, Reason
from extproc.discovery.dns.answer import Answer, Nothing, Resolve, Target
from scheduler.types import Pod

log = logging.getLogger(__name__)

#: Longest time between look-ups, in seconds. The times to live that the DNS of clusters and containers give are no
#: measure of how fast pods come and go: 5 s or 30 s in Kubernetes, 600 s in Docker; and a look-up is cheap.
DEFAULT_INTERVAL = 5.0
#: Shortest time to live that is believed, in seconds. Many servers say 0, "do not keep it": a look-up a second is what
#: the resolver of a large cluster bears from each of its clients.
MIN_TTL = 1.0
#: Seconds between look-ups of a name that never had an answer, where the interval is longer: somebody waits for it.
FIRST_INTERVAL = 1.0
#: Seconds until a look-up that failed is tried again, where the interval is longer.
RETRY_INTERVAL = 5.0
#: Seconds for a look-up with all its questions: search domains, targets, several servers.
TIMEOUT = 30.0


class DnsDiscovery:
    """The addresses of a name, asked for again when their time to live is over.

    A look-up that fails never takes away what an earlier one found, "no such name" included: a resolver that lost its
    upstream answers the same. What an answer leaves out is gone. `first_sync` waits for an answer.

    Args:
        target: name and port.
        interval: longest time between look-ups, in seconds; it wins over every other time.
        local: as in `addresses.forbidden`: with False, such addresses are left out of answers.
        resolve: looks a target up. Left out: as the machine is set up, `resolver.Resolver`.
        sleep: waits between look-ups.
        timeout: seconds for one look-up.
    """

    def __init__(
        self,
        target: Target,
        interval: float = DEFAULT_INTERVAL,
        *,
        local: bool = True,
        resolve: Resolve | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        timeout: float = TIMEOUT,
    ) -> None:
        if resolve is None:
            # 50 ms of imports, for those who use it.
            from extproc.discovery.dns.resolver import Resolver

            resolve = Resolver()
        self._target = target
        self._interval = interval
        self._local = local
        self._resolve = resolve
        self._sleep = sleep
        self._timeout = timeout
        self._found: frozenset[tuple[IPAddress, int]] | None = None
        self._published: list[Pod] | None = None
        self._contact = Contact(f"dns {target.host}")
        self.first_sync = asyncio.Event()

    @property
    def contacts(self) -> tuple[Contact, ...]:
        return (self._contact,)

    async def run(self, publish: Publish) -> None:
        while True:
            wait = await self._ask()
            if self._found is not None:
                self._publish(publish, self._found)
                self.first_sync.set()
            await self._sleep(min(wait, self._interval))

    async def _ask(self) -> float:
        """Looks the target up. Returns the seconds until the next look-up."""
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._resolve(self._target)
        except TimeoutError as error:
            self._failed(Reason.TIMEOUT, str(error) or "no answer in time")
        except Nothing as error:
            self._failed(Reason.NOT_FOUND, str(error))
        except (OSError, ValueError) as error:
            self._failed(Reason.BAD_ANSWER, str(error) or type(error).__name__)
        else:
            return self._answered(answer)
        return FIRST_INTERVAL if self._found is None else RETRY_INTERVAL

    def _answered(self, answer: Answer) -> float:
        refused = {ip: why for ip, _ in answer.pods if (why := forbidden(ip, local=self._local))}
        if refused:
            some, why = next(iter(refused.items()))
            self._failed(Reason.BAD_ANSWER, f"{some} {why}")
            allowed = frozenset([one for one in answer.pods if one[0] not in refused])
            if allowed:
                self._found = allowed
            return RETRY_INTERVAL
        self._found = answer.pods
        if answer.trouble:
            self._contact.alive()
            self._failed(Reason.INCOMPLETE, answer.trouble)
        elif self._contact.reached():
            log.info("%s resolves again", self._target.host)
        wait = max(answer.ttl, MIN_TTL)
        return min(wait, RETRY_INTERVAL) if answer.trouble else wait

    def _failed(self, reason: Reason, trouble: str) -> None:
        if self._contact.failed(reason, trouble):
            kept = len(self._found or ())
            log.warning("cannot resolve %s: %s; keeping %d addresses", self._target.host, trouble, kept)

    def _publish(self, publish: Publish, found: frozenset[tuple[IPAddress, int]]) -> None:
        pods = [Pod(join(*one)) for one in sorted(found, key=order)]
        if pods != self._published:
            self._published = pods
            publish(pods)
