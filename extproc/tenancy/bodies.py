"""How many bytes of request bodies Envoy may hold, and for whom. Pure.

Envoy keeps a body from its first byte to the end of the answer, since a retry needs it. So the length is reserved when
the headers come, and let go when the stream ends. What does not fit is refused, or makes room by ending an upload that
is not whole: a request that was sent to a pod is never ended.
"""

from collections import OrderedDict
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

#: Bytes of a body that count for nothing. Common requests have less: a client that sends many has many connections,
#: which Envoy bounds itself.
FREE: Final = 64 << 10
#: Seconds in which a body has to be whole, beside those for its length.
PATIENCE: Final = 30.0
#: Bytes a second of the slowest client that is waited for: 400 kbit/s, a weak mobile uplink.
SLOWEST: Final = 50_000.0
#: Seconds after which an upload may have to make room for another one of its own tenant: 16 MiB need one at 130 Mbit/s.
GRACE: Final = 2.0


class TooManyBytes(Exception):
    """There is no room for a body now."""


class Hold:
    """A body's reservation. `Bodies.release` it, whatever happens."""

    __slots__ = ("_evict", "began", "deadline", "open", "size", "tenant", "whole")

    def __init__(self, tenant: str, size: int, now: float, evict: Callable[[], None]) -> None:
        self.tenant = tenant
        self.size = size
        self.began = now
        self.deadline = now + PATIENCE + size / SLOWEST
        self._evict = evict
        #: Whether its bytes count.
        self.open = True
        #: Whether all of it has come. Set it then: it is never evicted any more.
        self.whole = False

    def evict(self) -> None:
        self._evict()


class _Tenant:
    __slots__ = ("held", "holds")

    def __init__(self) -> None:
        self.held = 0
        #: The oldest first.
        self.holds: OrderedDict[Hold, None] = OrderedDict()


class Bodies:
    """The reservations of one process. One thread only.

    Args:
        total: bytes for all.
        share: bytes for one tenant at most; at least the largest body.
    """

    def __init__(self, total: int, share: int) -> None:
        self._total = total
        self._share = min(share, total)
        self._tenants: dict[str, _Tenant] = {}
        #: By deadline; the number keeps holds from being compared.
        self._due: list[tuple[float, int, Hold]] = []
        self._count = 0
        #: Bytes that are reserved.
        self.held = 0
        #: Uploads that had to make room, and that came too slowly, ever.
        self.evicted = self.late = 0

    def take(self, tenant: str, size: int, now: float, evict: Callable[[], None]) -> Hold | None:
        """Reserves `size` bytes; None: so few count for nothing.

        `evict` is called, once at most and never from here for its own hold, where the upload has to end. It must not
        raise, nor call back.

        Raises:
            TooManyBytes: there is no room.
        """
        if size <= FREE:
            return None
        mine = self._tenants.get(tenant)
        held = 0 if mine is None else mine.held
        if mine is not None and held + size > self._share:
            # Its own uploads that take their time: else one that stalls would keep its tenant out.
            held -= self._make_room(mine, held + size - self._share, before=now - GRACE)
        if held + size > self._share:
            raise TooManyBytes("a tenant's share of bodies is used up")
        while self.held + size > self._total:
            # The tenant that holds most gives way, unless that tenant asks.
            heaviest = max(self._tenants.values(), key=lambda one: one.held)
            before = now - GRACE if heaviest is mine or heaviest.held < held + size else now
            if not self._make_room(heaviest, 1, before=before) and not self._of_anybody(now - GRACE):
                raise TooManyBytes("the bodies of all tenants fill what there is")
        hold = Hold(tenant, size, now, evict)
        mine = self._tenants.setdefault(tenant, _Tenant())
        mine.holds[hold] = None
        mine.held += size
        self.held += size
        self._count += 1
        heappush(self._due, (hold.deadline, self._count, hold))
        return hold

    def release(self, hold: Hold) -> None:
        """The stream is over. Further calls do nothing."""
        if not hold.open:
            return
        hold.open = False
        mine = self._tenants[hold.tenant]
        del mine.holds[hold]
        mine.held -= hold.size
        self.held -= hold.size
        if not mine.holds:
            del self._tenants[hold.tenant]

    def expire(self, now: float) -> None:
        """Ends what is late. To be called some times a second."""
        due = self._due
        while due and (due[0][0] <= now or not due[0][2].open or due[0][2].whole):
            hold = heappop(due)[2]
            if hold.open and not hold.whole:
                self.late += 1
                self._end(hold)

    def _end(self, hold: Hold) -> None:
        self.release(hold)
        hold.evict()

    def _make_room(self, tenant: _Tenant, size: int, *, before: float) -> int:
        """Ends uploads of a tenant that began before then, the oldest first. Returns the bytes that became free."""
        freed = 0
        for hold in list(tenant.holds):
            if freed >= size:
                break
            if hold.began > before:
                break
            if not hold.whole:
                freed += hold.size
                self.evicted += 1
                self._end(hold)
        return freed

    def _of_anybody(self, before: float) -> int:
        """The heaviest tenant has nothing that may end: the next one that has."""
        for tenant in sorted(self._tenants.values(), key=lambda one: -one.held):
            freed = self._make_room(tenant, 1, before=before)
            if freed:
                return freed
        return 0
