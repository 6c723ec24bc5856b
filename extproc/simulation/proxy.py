"""Envoy's part of a simulation: asks the gateway, sends the request on, tries the next pod, writes the log."""

from collections.abc import Callable, Mapping
from math import nan
from typing import TYPE_CHECKING

from extproc.outcome.outcome import Outcome
from extproc.protocol.events import RequestBody, RequestHeaders, TokenUsage
from extproc.protocol.headers import Headers
from extproc.protocol.replies import ImmediateReply, RequestBodyReply
from extproc.simulation.calls import Call
from extproc.simulation.engine import Job
from extproc.simulation.events import Events
from extproc.simulation.fleet import Refused, SimulatedPod
from extproc.simulation.gateway import SimulatedGateway
from extproc.simulation.prompts import body
from extproc.simulation.records import Record

if TYPE_CHECKING:
    from extproc.request.pipeline import Exchange

#: Seconds for which Envoy collects entries of its log (envoy/gateway.yaml).
LOG_DELAY = 0.05
#: Seconds from a try that failed to the next: the least of what envoy/gateway.yaml allows.
RETRY_DELAY = 0.01
#: What a model server calls its model where a trace names none.
MODEL = "model"

_HEAD = RequestHeaders(
    Headers([(":method", b"POST"), (":path", b"/v1/completions"), ("content-type", b"application/json")])
)


class Passage:
    """One request on its way through Envoy. Begin it with `start`; `done` is called with its record at its end.

    Args:
        call: what is asked.
        gateway: asked for the destination.
        pods: by address, all that ever were.
        events: the simulation's.
        block_tokens: of the call's blocks.
        retries: further pods that are tried.
        done: what is to be called at the end.
    """

    __slots__ = (
        "_attempts", "_block_tokens", "_call", "_done", "_events", "_exchange", "_gateway", "_key", "_left", "_pods",
        "_record", "_sent_at", "_tries_left", "pod",
    )  # fmt: skip

    def __init__(
        self,
        call: Call,
        gateway: SimulatedGateway,
        pods: Mapping[str, SimulatedPod],
        events: Events,
        block_tokens: int,
        retries: int,
        done: Callable[[Call, Record], None],
    ) -> None:
        self._call = call
        self._gateway = gateway
        self._pods = pods
        self._events = events
        self._block_tokens = block_tokens
        self._tries_left = retries + 1
        self._done = done
        self._exchange: Exchange | None = None
        self._key = ""
        self._left: list[str] = []
        self._attempts = 0
        self._sent_at = 0.0
        self._record = Record(call, events.now)
        #: Where it is now.
        self.pod: SimulatedPod | None = None

    def start(self) -> None:
        exchange = self._exchange = self._gateway.open()
        exchange.handle(_HEAD)
        replies = exchange.handle(RequestBody(body(self._call, MODEL, self._block_tokens), end_of_stream=True))
        for reply in replies:
            if isinstance(reply, ImmediateReply):
                self._end(reply.status)
                return
            if isinstance(reply, RequestBodyReply):
                assert reply.tag is not None  # noqa: S101 - each pick has one
                self._key = reply.tag.key
                self._left = reply.mutation.destination.split(",")
        self._try()

    def first_token(self) -> None:
        self._record.first_at = self._events.now

    def finished(self, job: Job) -> None:
        record, call = self._record, self._call
        record.cached_tokens = job.cached_tokens
        usage = TokenUsage(call.prompt_tokens, job.cached_tokens, call.output_tokens)
        first_at = record.first_at
        self._close(200, usage=usage, ttft=first_at - self._sent_at, stream=self._events.now - first_at)

    def lost(self) -> None:
        """The pod is gone while it had the request."""
        if self._record.first_at == self._record.first_at:
            # The answer had begun: the client sees it break off.
            self._record.first_at = nan
            self._close(200, details="upstream_reset_after_response_started{connection_termination}", broken=True)
            return
        self._retry()

    def _try(self) -> None:
        self._attempts += 1
        self._tries_left -= 1
        address = self._left.pop(0)
        pod = self.pod = self._pods[address]
        call = self._call
        job = Job(self, call.prompt_tokens, call.output_tokens, call.blocks, self._block_tokens, call.model)
        if pod.alive and not pod.engine.fits(job):
            self._close(400)
            return
        self._record.pod = pod.pod.name
        self._sent_at = self._events.now
        try:
            pod.submit(job)
        except Refused:
            self._retry()

    def _retry(self) -> None:
        if self._tries_left and self._left:
            self._events.after(RETRY_DELAY, self._try)
        else:
            self._close(503)

    def _close(
        self,
        status: int,
        *,
        usage: TokenUsage = TokenUsage(),  # noqa: B008 - frozen
        ttft: float | None = None,
        stream: float | None = None,
        details: str = "via_upstream",
        broken: bool = False,
    ) -> None:
        served = self.pod.pod.address if self.pod is not None else ""
        outcome = Outcome(
            status=status, served=served, attempts=self._attempts, ttft=ttft, stream=stream, usage=usage,
            details=details,
        )  # fmt: skip
        self._events.after(LOG_DELAY, self._gateway.ended, self._key, outcome)
        self._end(503 if broken else status)

    def _end(self, status: int) -> None:
        assert self._exchange is not None  # noqa: S101 - it was started
        self._exchange.close()
        self._record.status = status
        self._record.attempts = self._attempts
        self._record.ended_at = self._events.now
        self._done(self._call, self._record)
