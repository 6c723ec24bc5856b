"""One request: authenticate → parse → schedule → mutation, and at its end the release of what it held.

An `Exchange` lives as long as its ext_proc stream. It is handed events and gives replies; it does no I/O. The one
thing it may have to wait for is a key set to check a token with: then `pending` is set, and whoever drives the exchange
awaits it and calls `resume`.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import msgspec

from extproc.answers import AnswerWatch
from extproc.auth.base import Identity, Pending
from extproc.auth.jwt import Authenticator
from extproc.decisions import DecisionLog
from extproc.ended import Ended, Witness
from extproc.errors import Refusal, body_too_large, forbidden, no_ready_pod, saturated
from extproc.events import Event, RequestHeaders, ResponseBody, ResponseHeaders, ResponseTrailers, TokenUsage
from extproc.headers import AUTHORIZATION, CONTENT_TYPE, DEBUG, METHOD, PATH, REQUEST_ID, TRACEPARENT, Headers
from extproc.ledger import Ledger
from extproc.metrics import Metrics
from extproc.mutation import destination, routing
from extproc.outcomes import UNKNOWN, Outcome
from extproc.parsers import Api, ParsedRequest, is_model_api, parse
from extproc.replies import Reply, Tag
from extproc.session import HeadReady, RequestReady, Session
from scheduler.cycle import record_at, schedule
from scheduler.errors import NoReadyPod, Saturated
from scheduler.pool.store import PodStore, Ticket
from scheduler.profile import Profile
from scheduler.types import Decision, Prompt, Request

log = logging.getLogger(__name__)

#: Methods whose body is read for a model's name.
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_MAX_KEY = 2**64 - 1
_JSON = re.compile(r"[/+]json\b")


class Pipeline:
    """What all requests of a gateway share. One thread only."""

    def __init__(
        self,
        *,
        profile: Profile,
        store: PodStore,
        authenticator: Authenticator | None,
        metrics: Metrics,
        decisions: DecisionLog,
        ledger: Ledger,
        witnesses: Sequence[Witness],
        max_body: int,
        forward_token: bool,
        explain_to_clients: bool = False,
        identity_headers: Mapping[str, str],
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        rng: Random,
    ) -> None:
        self.profile = profile
        self.store = store
        self.authenticator = authenticator
        self.metrics = metrics
        self.decisions = decisions
        self.max_body = max_body
        #: With auth on, the token is the gateway's business: model servers do not get it unless that is asked for.
        self.removed_headers = () if authenticator is None or forward_token else (AUTHORIZATION,)
        self.explain_to_clients = explain_to_clients
        #: Header name → claim: what model servers are told of who asks.
        self.identity_headers = identity_headers
        self.clock = clock
        self.wall_clock = wall_clock
        self.rng = rng
        self.ledger = ledger
        self.witnesses = witnesses
        # From a random start, so that entries of a process that was before this one are not taken for its own.
        self._keys = rng.getrandbits(64)

    def next_key(self) -> str:
        """A key that no other request has: 16 characters."""
        self._keys = (self._keys + 1) & _MAX_KEY
        return f"{self._keys:016x}"

    def explain(self, path: str, body: bytes) -> dict[str, Any]:
        """The decision that a request with this body would get now. Nothing is routed, counted or remembered.

        Raises:
            Refusal: it would be refused.
        """
        parsed = parse(path, body)
        now = self.clock()
        request = Request(model=parsed.model, prompt=parsed.prompt)
        decision = _scheduled(self, request, now, record=False)
        log_of_one = DecisionLog(1)
        log_of_one.add(self.wall_clock(), request, decision)
        return next(log_of_one.rows(1))

    def open(self) -> "Exchange":
        """An exchange for a new stream. `close()` it, whatever happens."""
        return Exchange(self)


class Exchange:
    """One ext_proc stream's way through the pipeline."""

    __slots__ = (
        "_closed",
        "_decision",
        "_decision_seconds",
        "_ended",
        "_head",
        "_identity",
        "_key",
        "_pipeline",
        "_request",
        "_session",
        "_started",
        "_streamed",
        "_ticket",
        "_watch",
        "pending",
    )  # fmt: skip

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._session = Session(max_body=pipeline.max_body)
        self._started = pipeline.clock()
        self._head: RequestHeaders | None = None
        self._identity: Identity | None = None
        self._request: Request | None = None
        self._decision: Decision | None = None
        self._ticket: Ticket | None = None
        self._watch: AnswerWatch | None = None
        self._closed = False
        self._ended = 0.0
        self._decision_seconds = 0.0
        self._key = ""
        self._streamed = False
        #: Await this and call `resume()` before the next event is handed in.
        self.pending: Pending | None = None
        pipeline.metrics.opened()

    def handle(self, event: Event) -> list[Reply]:
        """What is to be answered to `event`, in order.

        Raises:
            RemoteProtocolError: the event is illegal now; end the stream.
        """
        try:
            action = self._session.receive(event)
            if isinstance(action, HeadReady):
                self._head = action.head
                self._authenticate(action.head, final=False)
            elif isinstance(action, RequestReady):
                self._decide(action)
            elif action is not None:
                self._observe(action)
        except Refusal as refusal:
            self._refuse(refusal)
        return self._session.replies_to_send()

    def resume(self) -> list[Reply]:
        """Goes on after `pending` was awaited."""
        self.pending = None
        assert self._head is not None  # noqa: S101 - nothing is pending before the headers
        try:
            self._authenticate(self._head, final=True)
        except Refusal as refusal:
            self._refuse(refusal)
        return self._session.replies_to_send()

    def close(self) -> None:
        """The stream is over: releases what the request held. Further calls do nothing."""
        if self._closed:
            return
        self._closed = True
        pipeline = self._pipeline
        pipeline.metrics.closed()
        decision, request = self._decision, self._request
        if decision is None or request is None or self._ticket is None:
            return
        now = pipeline.clock()
        outcome = UNKNOWN if self._watch is None else self._watch.outcome
        if outcome.status is not None:
            # Before the release: the count that goes is then that of the pod that served.
            try:
                self._learn(outcome)
            finally:
                self._ticket.release(now)
            return
        self._ticket.release(now)
        self._ended = now
        pipeline.ledger.expect(self._key, self._learn, now)

    def _learn(self, outcome: Outcome) -> None:
        """How the request ended, from whatever source: what was noted at the pick is made true."""
        pipeline, decision, request = self._pipeline, self._decision, self._request
        assert decision is not None  # noqa: S101 - only a request that was routed is answered
        assert request is not None  # noqa: S101
        assert self._ticket is not None  # noqa: S101
        now = pipeline.clock()
        status = outcome.status
        picked = decision.pod.address
        served = outcome.served or picked
        if served != picked:
            # Envoy went on to another pod only because this one failed.
            self._failed_at(picked, now)
            self._moved(served, now)
        if status is None:
            pass
        elif status >= 500:
            # No pod computed it: none holds its prefix.
            if served == picked:
                _take_back(decision)
            self._failed_at(served, now)
        else:
            pipeline.store.observe_success_of_request(served)
            if status < 400:
                # The first byte of an answer in one piece is its last token's: it says nothing of the first.
                pipeline.store.observe_outcome(
                    served,
                    ttft=outcome.ttft if self._streamed else None,
                    uncached_tokens=_computed(outcome.usage, decision),
                    tpot=outcome.tpot if self._streamed else None,
                    now=now,
                )
        seconds = (self._ended or now) - self._started
        pipeline.metrics.ended(request.model, picked, outcome, seconds, streamed=self._streamed)
        if pipeline.witnesses:
            self._tell(request, decision, outcome, seconds)
        # The request looks things up in this exchange: with its prompt, it would wait for the garbage collector.
        self._request = None

    def _failed_at(self, address: str, now: float) -> None:
        if self._pipeline.store.observe_failure_of_request(address, now):
            log.warning("pod left alone: requests failed in a row", extra={"pod": address})

    def _tell(self, request: Request, decision: Decision, outcome: Outcome, seconds: float) -> None:
        pipeline = self._pipeline
        ended = Ended(
            at=pipeline.wall_clock(),
            seconds=seconds,
            decision_seconds=self._decision_seconds,
            request=request,
            decision=decision,
            outcome=outcome,
            subject=self._identity.subject if self._identity is not None else "",
            traceparent=self._head.headers.get(TRACEPARENT) if self._head is not None else "",
        )
        for witness in pipeline.witnesses:
            witness.ended(ended)

    def _moved(self, address: str, now: float) -> None:
        """A retry was answered by another pod than the one picked: what was noted of the one is true of the other."""
        pipeline, decision, request = self._pipeline, self._decision, self._request
        assert decision is not None  # noqa: S101 - only a request that was routed is answered
        assert request is not None  # noqa: S101
        assert self._ticket is not None  # noqa: S101
        _take_back(decision)
        snapshot = pipeline.store.snapshot(now)
        row = snapshot.rows.get(address)
        if row is not None:
            pod = snapshot.pods[row]
            self._ticket.move(pod)
            record_at(pipeline.profile, request, snapshot, pod, now=now, rng=pipeline.rng)

    def _authenticate(self, head: RequestHeaders, *, final: bool) -> None:
        authenticator = self._pipeline.authenticator
        if authenticator is not None:
            headers = head.headers
            verdict = authenticator.check(
                headers.raw(AUTHORIZATION), headers.count(AUTHORIZATION), now=self._pipeline.wall_clock(), final=final
            )
            if isinstance(verdict, Pending):
                self.pending = verdict
                return
            self._identity = verdict
            self._pipeline.metrics.authenticated("ok")
        ready = self._session.proceed()
        if ready is not None:
            self._decide(ready)

    def _decide(self, ready: RequestReady) -> None:
        pipeline = self._pipeline
        now = pipeline.clock()
        headers = ready.head.headers
        parsed = self._parse(ready, headers)
        request = Request(
            id=headers.get(REQUEST_ID),
            model=parsed.model if parsed is not None else "",
            prompt=parsed.prompt if parsed is not None else Prompt(),
            subset=None if ready.subset is None else frozenset(ready.subset),
            lookup=self._lookup,
        )
        identity = self._identity
        if identity is not None and not identity.may_use(request.model):
            what = f"the model {request.model!r}" if request.model else "requests that name no model"
            raise forbidden(f"The token does not allow {what}.", detail="model_not_allowed")
        decision = _scheduled(pipeline, request, now)
        self._request = request
        self._decision = decision
        self._ticket = pipeline.store.acquire(decision.pod, decision.uncached_tokens, now)
        self._streamed = parsed is not None and parsed.stream
        self._watch = AnswerWatch(Api.GENERIC if parsed is None else parsed.api, now)
        self._key = pipeline.next_key()
        self._session.route(
            routing(destination(decision.pods), self._told(), pipeline.removed_headers),
            tag=Tag(self._key, self._explanation(decision)),
        )
        self._decision_seconds = pipeline.clock() - now
        pipeline.metrics.decided(self._decision_seconds, decision.prefix_match)
        pipeline.decisions.add(pipeline.wall_clock(), request, decision)
        if log.isEnabledFor(logging.DEBUG):
            extra = {"request_id": request.id, "model": request.model, "pods": destination(decision.pods)}
            log.debug("decided", extra={**extra, "scores": decision.explain(limit=4)})

    def _explanation(self, decision: Decision) -> str:
        """The decision in words, for a client that asks and may."""
        if not self._pipeline.explain_to_clients or self._head is None or self._head.headers.get(DEBUG) != "true":
            return ""
        return msgspec.json.encode({"prefix_match": decision.prefix_match, **decision.explain(limit=1)[0]}).decode()

    def _told(self) -> tuple[tuple[str, str], ...]:
        """Identity headers. A claim that is no plain text is left out: it could end a header, or mean another one."""
        identity, names = self._identity, self._pipeline.identity_headers
        if identity is None or not names:
            return ()
        claims = identity.claims
        told = [(name, claims.get(claim)) for name, claim in names.items()]
        return tuple(
            [(name, text) for name, text in told if isinstance(text, str) and text.isascii() and text.isprintable()]
        )

    def _parse(self, ready: RequestReady, headers: Headers) -> ParsedRequest | None:
        """What the body says, or None where it says nothing of a model."""
        body = ready.body
        if not body or headers.get(METHOD) not in _WITH_BODY:
            return None
        path = headers.get(PATH)
        if not is_model_api(path) and not _is_json(headers.get(CONTENT_TYPE)):
            # A form, an upload: the engine's own business, routed by load.
            return None
        try:
            return parse(path, body)
        except Refusal:
            if ready.complete:
                raise
            raise body_too_large(len(body)) from None

    def _lookup(self, kind: str, name: str, /) -> str | None:
        if kind == "header" and self._head is not None:
            value = self._head.headers.raw(name)
            return None if value is None else value.decode("latin-1")
        if kind == "claim" and self._identity is not None:
            claim = self._identity.claims.get(name)
            return claim if isinstance(claim, str) else None
        return None

    def _observe(self, action: ResponseHeaders | ResponseBody | ResponseTrailers) -> None:
        watch = self._watch
        if watch is None:
            return  # Envoy answers by itself, before there was a pick
        if isinstance(action, ResponseTrailers):
            watch.trailers(action, self._pipeline.clock())
        elif isinstance(action, ResponseHeaders):
            watch.headers(action)
        else:
            watch.body(action, self._pipeline.clock())

    def _refuse(self, refusal: Refusal) -> None:
        self._session.reject(refusal)
        metrics = self._pipeline.metrics
        if self._identity is None and self._pipeline.authenticator is not None:
            metrics.authenticated(refusal.detail)  # nothing else is refused before it is known who asks
        reason = refusal.detail if refusal.status in (401, 403) else refusal.code or "refused"
        metrics.refused(refusal.status, reason)
        if log.isEnabledFor(logging.INFO):
            request_id = self._head.headers.get(REQUEST_ID) if self._head is not None else ""
            extra = {"request_id": request_id, "status": refusal.status, "code": refusal.code}
            log.info("refused", extra={**extra, "detail": refusal.detail})


def _scheduled(pipeline: Pipeline, request: Request, now: float, *, record: bool = True) -> Decision:
    snapshot = pipeline.store.snapshot(now)
    try:
        return schedule(pipeline.profile, request, snapshot, now=now, rng=pipeline.rng, record=record)
    except NoReadyPod as error:
        raise no_ready_pod(str(error)) from error
    except Saturated as error:
        raise saturated(str(error)) from error


def _computed(usage: TokenUsage, decision: Decision) -> int:
    """Prompt tokens that the pod had to compute: as it counted them, else as was estimated at the pick."""
    if usage.prompt is None or usage.cached is None:
        return decision.uncached_tokens
    return usage.prompt - usage.cached


def _take_back(decision: Decision) -> None:
    for undo in decision.undo:
        undo()


def _is_json(content_type: str) -> bool:
    return not content_type or _JSON.search(content_type) is not None
