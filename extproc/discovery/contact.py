"""How a source of pods is reached: when last, why not since, and how often not."""

import re
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any

#: Seconds after which the log repeats a failure of which nothing changed but numbers: they may differ each time.
REPEAT_AFTER = 60.0
_NUMBER = re.compile(r"\d+")


class Reason(StrEnum):
    """Why there was no answer: a label of metrics."""

    #: The API server does not accept the credentials (401).
    UNAUTHORIZED = "unauthorized"
    #: It does, and refuses (403): RBAC.
    FORBIDDEN = "forbidden"
    #: There is no such thing: a Service, a pool, a name in the DNS, a file.
    NOT_FOUND = "not_found"
    #: 429, 5xx.
    BUSY = "busy"
    #: Any other status.
    REFUSED = "refused"
    #: No connection: refused, no route, a name that does not resolve, TLS.
    CONNECT = "connect"
    TIMEOUT = "timeout"
    #: A connection that ended before its time.
    CUT = "cut"
    #: An answer that cannot be read, or be used.
    BAD_ANSWER = "bad_answer"
    #: A part of the answer is missing, and what was known of it stands in.
    INCOMPLETE = "incomplete"
    #: Own tokens and certificates.
    CREDENTIALS = "credentials"
    #: A file that cannot be read.
    UNREADABLE = "unreadable"
    #: A fault of ours: the source's task died.
    FAULT = "fault"


class Contact:
    """Of one source. What is known stays known while a source is away: this is how people learn of it.

    Args:
        source: what is asked, for people and as a label: one of few, since the configuration names them.
        clock: monotonic seconds.
        lasting: whether an answer holds for ever.
    """

    def __init__(self, source: str, clock: Callable[[], float] = time.monotonic, *, lasting: bool = False) -> None:
        self.source = source
        self._lasting = lasting
        self._clock = clock
        self._began = clock()
        self._reached_at: float | None = None
        self._reason: Reason | None = None
        #: Why the source does not name the pods; "": it does, or was not asked yet.
        self.error = ""
        self._told: tuple[Reason, str] | None = None
        self._told_at = 0.0
        self._failures: dict[Reason, int] = {}

    @property
    def up(self) -> bool:
        """Whether the latest answer was a good one."""
        return self._reached_at is not None and not self.error

    def reached(self) -> bool:
        """A good answer, or a sign that the last one still holds. True: a failure was logged since."""
        self._reached_at = self._clock()
        self._reason, self.error = None, ""
        told, self._told = self._told, None
        return told is not None

    def alive(self) -> None:
        """The other side is there; its last answer, good or not, stands."""
        self._reached_at = self._clock()

    def missed(self, reason: Reason) -> None:
        """A failure that comes to nothing, such as the end of a long connection: it is counted."""
        self._failures[reason] = self._failures.get(reason, 0) + 1

    def failed(self, reason: Reason, text: str) -> bool:
        """No good answer. True: the log should have it, since it is news."""
        now = self._clock()
        self.missed(reason)
        self._reason = reason
        self.error = text or str(reason)
        told, said = self._told, (reason, self.error)
        if told == said:
            return False
        if told is not None and now - self._told_at < REPEAT_AFTER and _alike(told, said):
            return False
        self._told, self._told_at = said, now
        return True

    def statistics(self) -> dict[str, Any]:
        """A row for metrics and pages."""
        now = self._clock()
        last = self._began if self._reached_at is None else now if self._lasting else self._reached_at
        return {
            "source": self.source,
            "up": self.up,
            "seconds_since_contact": max(now - last, 0.0),
            "reason": None if self._reason is None else str(self._reason),
            "error": self.error,
            "failures": {str(reason): count for reason, count in self._failures.items()},
        }


def _alike(one: tuple[Reason, str], other: tuple[Reason, str]) -> bool:
    return one[0] == other[0] and _NUMBER.sub("", one[1]) == _NUMBER.sub("", other[1])
