# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""Verdicts on tokens, kept by digest: the same token is verified once, not once a request."""

from collections import OrderedDict

from extproc.auth.base import Identity, Reason
from extproc.auth.verdicts import Accepted, Refused

#: About 1 KiB each with the claims: 10 MiB. More bearers at once than that are verified again, at 0.1 ms.
MAX_ACCEPTED = 10_000
#: Refusals are kept apart, so that a flood of rubbish cannot push out accepted tokens.
MAX_REFUSED = 1_000
#: Seconds. Long enough to blunt a client in a retry loop, too short to be noticed by an honest one.
REFUSED_FOR = 2.0


class VerdictCache:
    """At most `accepted` and `refused` verdicts: the least recently used, and the oldest, make room."""

    __slots__ = ("_accepted", "_refused", "max_accepted", "max_refused")

    def __init__(self, accepted: int = MAX_ACCEPTED, refused: int = MAX_REFUSED) -> None:
        self.max_accepted = accepted
        self.max_refused = refused
        self._accepted: OrderedDict[bytes, Accepted] = OrderedDict()
        self._refused: OrderedDict[bytes, Refused] = OrderedDict()

    def __len__(self) -> int:
        return len(self._accepted) + len(self._refused)

    def get(self, digest: bytes, now: float) -> Identity | Reason | None:
        """The verdict on a token, or None where it has to be checked."""
        accepted = self._accepted.get(digest)
        if accepted is not None:
            if now < accepted.until and accepted.source.current(now) is accepted.keys:
                self._accepted.move_to_end(digest)
                return accepted.identity
            del self._accepted[digest]
        refused = self._refused.get(digest)
        if refused is not None:
            if now < refused.until and (refused.source is None or refused.source.current(now) is refused.keys):
                return refused.reason
            del self._refused[digest]
        return None

    def accept(self, digest: bytes, verdict: Accepted) -> None:
        self._accepted[digest] = verdict
        if len(self._accepted) > self.max_accepted:
            self._accepted.popitem(last=False)

    def refuse(self, digest: bytes, verdict: Refused) -> None:
        self._refused[digest] = verdict
        if len(self._refused) > self.max_refused:
            self._refused.popitem(last=False)
