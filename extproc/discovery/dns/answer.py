"""One look-up's question and answer."""

from collections.abc import Awaitable, Callable

import msgspec

from extproc.discovery.addresses import IPAddress


class Target(msgspec.Struct, frozen=True):
    """A name, all of whose addresses are pods."""

    host: str
    #: On which the pods serve; None: the name has SRV records, which say on which hosts and ports.
    port: int | None


class Answer(msgspec.Struct, frozen=True):
    """The DNS answer for a target."""

    pods: frozenset[tuple[IPAddress, int]]
    #: Seconds for which the answer holds; infinite where no record has a TTL.
    ttl: float
    #: Why a part of it is what it was before, or missing. Empty: nothing is.
    trouble: str = ""


class Nothing(OSError):
    """The DNS was reached, and has no such name or record."""


#: Raises OSError where there is no answer, ValueError where there can be none.
Resolve = Callable[[Target], Awaitable[Answer]]
