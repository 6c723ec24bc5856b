"""A request that is over, for access logs, trace logs and traces: one that was routed, or one that was refused."""

from typing import Protocol

import msgspec

from extproc.outcome.outcome import Outcome
from extproc.telemetry.trace_context import TraceContext
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
    #: The sender, from the token; empty without a token.
    subject: str
    #: As the client sent it, without its query.
    path: str = ""
    #: None: it gets no spans.
    trace: TraceContext | None = None
    #: Names of the prompt's blocks (`Context.blocks`); empty where no reader needs them.
    blocks: tuple[int, ...] = ()


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """A request that the gateway answered itself. Times are seconds; `at` is wall clock."""

    at: float
    #: From the request's headers to the refusal.
    seconds: float
    request_id: str
    #: As the client sent it, without its query.
    path: str
    #: As the client gave it; empty where it was not read yet.
    model: str
    #: The sender, from the token; empty without a token that was found valid.
    subject: str
    status: int
    #: The error's `code`, as in the answer.
    code: str
    #: The cause, for logs: never empty, never in the answer.
    detail: str
    trace: TraceContext | None = None


class Witness(Protocol):
    """Writes requests down. Called on the event loop: it must not block, and must not raise."""

    def ended(self, ended: Ended) -> None: ...

    def refused(self, refused: Refused) -> None: ...
