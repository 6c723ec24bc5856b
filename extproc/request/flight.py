# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""A request that was sent to a pod, until it is known how it ended."""

import logging
from typing import TYPE_CHECKING

from extproc.outcome.outcome import DEFAULT_RETRY_AFTER, Outcome
from extproc.outcome.watch import AnswerWatch
from extproc.parsers import Api, ParsedRequest
from extproc.protocol.events import ResponseBody, ResponseHeaders, ResponseTrailers, TokenUsage
from extproc.protocol.headers import PATH, Headers
from extproc.request.context import Context
from extproc.routing.pool import Pool
from extproc.telemetry.finished import Ended
from extproc.telemetry.trace_context import TraceContext
from scheduler.cycle import record_at
from scheduler.types import Decision, Request, Undo

if TYPE_CHECKING:
    from scheduler.pool.store import Ticket

log = logging.getLogger(__name__)

#: Envoy's `%RESPONSE_CODE_DETAILS%` of an answer that the pod did not bring to its end.
_BROKEN_OFF = "upstream_reset_after_response_started"
#: Status that proxies log for a client that went away.
_CLIENT_GONE = 499


class Flight:
    """Bookkeeping of one routed request: corrects at its end what was assumed when its pod was picked.

    Always call `end()`.

    Args:
        context: state that all requests share.
        pool: the pool from which the pod was picked.
        request: the request as the pods see it.
        decision: the picked pods.
        parsed: the parsed body.
        headers: the headers of the request.
        subject: the client, from the subject of its token.
        started: when the headers of the request came, monotonic seconds.
        now: monotonic seconds.
        trace: the span of the request, where it gets one.
    """

    __slots__ = (
        "_blocks", "_context", "_decision", "_ended", "_headers", "_pool", "_prefill", "_request", "_started",
        "_streamed", "_subject", "_ticket", "_trace", "_watch", "decision_seconds", "key", "model",
    )  # fmt: skip

    def __init__(
        self,
        context: Context,
        pool: Pool,
        request: Request,
        decision: Decision,
        parsed: ParsedRequest | None,
        headers: Headers,
        subject: str,
        started: float,
        now: float,
        trace: TraceContext | None = None,
    ) -> None:
        self._context = context
        self._pool = pool
        self._request: Request | None = request
        self._decision = decision
        self._headers = headers
        self._subject = subject
        self._started = started
        self._trace = trace
        self._streamed = parsed is not None and parsed.stream
        self._watch = AnswerWatch(Api.GENERIC if parsed is None else parsed.api, now)
        self._ticket = pool.store.acquire(decision.pod, decision.uncached_tokens, now)
        #: The work of the prefill pod for this request, where there is one.
        self._prefill: Ticket | None = None
        if decision.prefill is not None:
            self._prefill = pool.store.acquire(decision.prefill.pod, decision.prefill.uncached_tokens, now)
        self._ended = 0.0
        #: The name that the client gave, whatever the pods know the model by.
        self.model = "" if parsed is None else parsed.model
        self.key = context.next_key()
        self.decision_seconds = 0.0
        self._blocks = () if context.blocks is None else context.blocks(request.model, request.prompt)
        # An answer may take minutes, and a prompt be megabytes.
        request.prompt.drop_text()

    def observe(self, event: ResponseHeaders | ResponseBody | ResponseTrailers) -> None:
        """Takes in what is shown of the answer."""
        if isinstance(event, ResponseTrailers):
            self._watch.trailers(event, self._context.clock())
        elif isinstance(event, ResponseHeaders):
            self._watch.headers(event)
            if self._prefill is not None:
                # The answer begins: the prompt is computed.
                self._prefill.release(self._context.clock())
        else:
            now = self._context.clock()
            self._watch.body(event, now)
            if event.body:
                self._ticket.begin(now)

    def end(self) -> None:
        """The stream is over: releases what the request held. Call it once."""
        now = self._context.clock()
        outcome = self._watch.outcome
        if self._prefill is not None:
            self._prefill.release(now)
        # Where Envoy shows only the headers of answers, its log has more than they do.
        if outcome.status is not None and not (outcome.ttft is None and self._context.log_tells_more):
            # Before the release: the count that goes is then that of the pod that served.
            try:
                self._learn(outcome)
            finally:
                self._ticket.release(now)
            return
        self._ticket.release(now)
        self._ended = now
        self._context.ledger.expect(self.key, self._learn_late, now)

    def _learn_late(self, outcome: Outcome) -> None:
        try:
            self._learn(self._watch.outcome if outcome.status is None else outcome)
        except Exception:
            # Whoever brings the outcome brings those of others as well.
            log.exception("a request's outcome is lost")

    def _learn(self, outcome: Outcome) -> None:
        """How the request ended, from whatever source: what was noted at the pick is made true."""
        context, decision, request, store = self._context, self._decision, self._request, self._pool.store
        assert request is not None  # noqa: S101 - an end is learnt once
        now = context.clock()
        status = outcome.status
        picked = decision.pod.address
        served = outcome.served or picked
        for address in _failed_before(decision, served, outcome.attempts):
            self._failed_at(address, now)
            # Which of the retried statuses it was is not reported. Other pods take what comes in the next second.
            store.observe_refusal(address, DEFAULT_RETRY_AFTER, now)
        # After the client went away, the progress of the pod is unknown.
        computed = status is None or status < 400 or status == _CLIENT_GONE
        if not computed:
            # None holds its prefix.
            take_back(decision)
        if served != picked:
            self._moved(request, served, now, computed=computed)
        if status is None:
            pass
        elif status == 429:
            store.observe_refusal(served, outcome.retry_after, now)
        elif status == 404:
            store.observe_missing(served, request.model, now)
        elif status >= 500 or outcome.details.startswith(_BROKEN_OFF):
            self._failed_at(served, now)
        else:
            store.observe_success_of_request(served)
            if status < 400:
                if outcome.usage.prompt is not None:
                    context.characters.observe(self.model, request.prompt.length, outcome.usage.prompt)
                # The first byte of an answer in one piece is its last token's, and no measure of the first.
                store.observe_outcome(
                    served,
                    # Nor is it this pod's doing where another one computed the prompt.
                    ttft=outcome.ttft if self._streamed and self._prefill is None else None,
                    uncached_tokens=_computed(outcome.usage, decision),
                    tpot=outcome.tpot if self._streamed else None,
                    now=now,
                    # The tokens ahead of the request are known only for the picked pod.
                    ahead=self._ticket.ahead if served == picked else 0.0,
                )
        seconds = (self._ended or now) - self._started
        gone = not store.has(served)
        context.metrics.ended(self.model, picked, outcome, seconds, streamed=self._streamed, gone=gone)
        if context.witnesses:
            self._tell(request, outcome, seconds, now - (self._ended or now))
        # The request looks things up in its exchange: with its prompt, it would wait for the garbage collector.
        self._request = None

    def _failed_at(self, address: str, now: float) -> None:
        if self._pool.store.observe_failure_of_request(address, now):
            log.warning("pod left alone: requests failed in a row", extra={"pod": address})

    def _tell(self, request: Request, outcome: Outcome, seconds: float, since: float) -> None:
        ended = Ended(
            at=self._context.wall_clock() - since,
            seconds=seconds,
            decision_seconds=self.decision_seconds,
            model=self.model,
            pool=self._pool.name,
            request=request,
            decision=self._decision,
            outcome=outcome,
            subject=self._subject,
            path=self._headers.get(PATH).partition("?")[0],
            trace=self._trace,
            blocks=self._blocks,
        )
        for witness in self._context.witnesses:
            try:
                witness.ended(ended)
            except Exception as error:  # noqa: BLE001 - whatever goes wrong there, the request is to be counted
                self._context.failed_witness(witness, error)

    def _moved(self, request: Request, address: str, now: float, *, computed: bool) -> None:
        """A retry was answered by another pod than the one picked: what was noted of the one is true of the other."""
        if computed:
            _undo(self._decision.undo)
        snapshot = self._pool.store.snapshot(now)
        row = snapshot.rows.get(address)
        if row is not None:
            pod = snapshot.pods[row]
            self._ticket.move(pod, now)
            if computed:
                record_at(self._pool.profile, request, snapshot, pod, now=now, rng=self._context.rng)


def take_back(decision: Decision) -> None:
    """Undoes the notes of plugins for a pick whose request was not served."""
    _undo(decision.undo)
    if decision.prefill is not None:
        _undo(decision.prefill.undo)


def _undo(notes: tuple[Undo, ...]) -> None:
    for undo in notes:
        try:
            undo()
        except Exception:
            # A plugin's mistake, which is not to cost the count of this request.
            log.exception("what a plugin noted of a pick stays")


def _failed_before(decision: Decision, served: str, attempts: int | None) -> list[str]:
    """Pods at which Envoy tried in vain before `served` took the request.

    It goes down the list, and leaves out, without a try, pods of which it does not know yet.
    """
    picked = decision.pod.address
    if served == picked:
        return []
    if attempts is None:
        return [picked]
    before = [pod.address for pod in decision.pods]
    if served in before:
        del before[before.index(served) :]
    return before[max(len(before) - attempts + 1, 0) :]


def _computed(usage: TokenUsage, decision: Decision) -> int:
    """Prompt tokens that the pod had to compute: as it counted them, else as was estimated at the pick."""
    if usage.prompt is None or usage.cached is None:
        return decision.uncached_tokens
    return max(usage.prompt - usage.cached, 0)
