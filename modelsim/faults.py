"""What is to go wrong on purpose."""

import math
from typing import Annotated, Literal

import msgspec

#: An hour, seconds: longer than any test waits, short enough that a slip of the keyboard ends.
MAX_DELAY = 3600

Delay = Annotated[float, msgspec.Meta(ge=0, le=MAX_DELAY)]


class Faults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Faults of one replica. They concern the inference paths, except for `metrics`."""

    #: Share of requests, 0-1, that are refused with `status`: evenly spread, the same ones each time.
    error_rate: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    status: Annotated[int, msgspec.Meta(ge=400, le=599)] = 503
    #: Requests are accepted and never answered.
    hang: bool = False
    #: The connection is closed once an answer has so many tokens; a shorter answer is not affected.
    crash_after_tokens: Annotated[int, msgspec.Meta(ge=0)] | None = None
    #: What `/metrics` does; `huge` is a page of 50 MiB.
    metrics: Literal["ok", "500", "html", "huge", "hang"] = "ok"
    #: Seconds from the request to its first token, whatever the engine would need. With one of the two delays set,
    #: answers are scripted and the engine is not asked; the delay that is not set is 0.
    first_token_delay: Delay | None = None
    #: Seconds from one token to the next.
    token_delay: Delay | None = None

    @property
    def scripted(self) -> bool:
        return self.first_token_delay is not None or self.token_delay is not None

    def fails(self, number: int) -> bool:
        """Whether request `number`, counted from 1 since the faults were set, is one that `error_rate` refuses."""
        # 0.1 x 10 is to be 1, and not a little less.
        return math.floor(number * self.error_rate + 1e-9) > math.floor((number - 1) * self.error_rate + 1e-9)


def validated(faults: Faults) -> Faults:
    """The same faults. Raises msgspec.ValidationError where one is out of its range: building them checks nothing."""
    return msgspec.convert(msgspec.to_builtins(faults), Faults)
