"""A request that was routed and is over, as it is told to whoever writes it down."""

from typing import Protocol

import msgspec

from extproc.outcome.outcome import Outcome
from scheduler.types import Decision, Request


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """Times are seconds; `at` is wall clock."""

    #: The end of the answer.
    at: float
    #: From the request's headers to there.
    seconds: float
    #: From the whole request to the pick.
    decision_seconds: float
    #: The model's name as the client gave it.
    model: str
    #: Whose pods were chosen from.
    pool: str
    #: As the pods see it: under another name of the model, where a route has one.
    request: Request
    decision: Decision
    outcome: Outcome
    #: Who asked, as the token says; empty without one.
    subject: str
    #: W3C trace context of the request, as it came; empty without one.
    traceparent: str
    #: Names of the prompt's blocks (`Context.blocks`); empty where nobody wants them.
    blocks: tuple[int, ...] = ()


class Witness(Protocol):
    """Writes requests down. Called on the event loop: it must not block, and must not raise."""

    def ended(self, ended: Ended) -> None: ...
