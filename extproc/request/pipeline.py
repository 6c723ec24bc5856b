# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""One request: authenticate → parse → schedule → mutation, and at its end the release of all it held.

An `Exchange` lives as long as its ext_proc stream. It is handed events and gives replies; it does no I/O. The one
thing it may have to wait for is a key set to check a token with: then `pending` is set, and the owner of the exchange
awaits it and calls `resume`.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import msgspec

from extproc.auth.base import CredentialChecker, Identity, Pending
from extproc.auth.claims import claim
from extproc.errors import (
    Refusal,
    bad_request,
    body_not_whole,
    body_too_large,
    body_too_slow,
    forbidden,
    shown,
    too_many_bodies,
)
from extproc.models.catalogue import Catalogue
from extproc.parsers import Api, ParsedRequest, parse
from extproc.parsers.controls import may_be_address
from extproc.process.repeats import Repeats
from extproc.protocol.actions import HeadReady, RequestReady
from extproc.protocol.events import Event, ProtocolConfig, RequestHeaders, ResponseHeaders
from extproc.protocol.headers import (
    AUTHORIZATION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    DEBUG,
    DESTINATION,
    PATH,
    PREFILLER,
    REQUEST_ID,
    TRACEPARENT,
    Headers,
)
from extproc.protocol.replies import NO_MUTATION, Mutation, Reply, Tag
from extproc.protocol.session import ASSUMED_CONFIG, Session
from extproc.request.anthropic_errors import AnthropicRefusal, speaks_anthropic
from extproc.request.context import Context
from extproc.request.flight import Flight, take_back
from extproc.request.mutation import admission, destination, with_header, without_header
from extproc.request.reading import Reading, one_model, read, with_model
from extproc.request.rewrite_answer import answer_names
from extproc.routing.choice import Router
from extproc.routing.objectives import Objectives
from extproc.routing.pool import Pool
from extproc.telemetry.decision_log import DecisionLog
from extproc.telemetry.finished import Refused
from extproc.telemetry.trace_context import Sampler
from extproc.tenancy.bodies import Bodies, Hold, TooManyBytes
from extproc.tenancy.tenant import tenant_of
from scheduler.types import Decision, Prompt, Request

log = logging.getLogger(__name__)


class Pipeline:
    """State that the exchanges of a gateway share. One thread only.

    Args:
        router: chooses pool and pod.
        context: clocks, counts and keys, which the requests' bookkeeping shares.
        authenticator: None: authentication is off.
        decisions: keeps the newest decisions for the admin pages.
        max_body: largest request body, bytes.
        forward_token: whether model servers get the Authorization header.
        explain_to_clients: whether a client that asks gets the decision in a header.
        sampler: decides which requests get spans; None: tracing is off.
        bodies: how many bytes of bodies may be under way; None: any number.
        max_unsized: bytes of a body whose length is not known beforehand, where `bodies` is there.
        identity_headers: header name → claim, for model servers.
        foreign: whether another Envoy than ours asks, which has not removed the headers that clients may not set.
        catalogue: answers the models API; None: the pods do.
        assumed: configuration of an Envoy that does not send its own.
        objectives: priorities by a header. Behind our own Envoy no request has it.
    """

    def __init__(
        self,
        *,
        router: Router,
        context: Context,
        authenticator: CredentialChecker | None,
        decisions: DecisionLog,
        max_body: int,
        forward_token: bool = False,
        explain_to_clients: bool = False,
        sampler: Sampler | None = None,
        shares_claim: str | None = None,
        bodies: Bodies | None = None,
        max_unsized: int = 0,
        identity_headers: Mapping[str, str],
        foreign: bool = False,
        catalogue: Catalogue | None = None,
        engine_controls: bool = False,
        assumed: ProtocolConfig = ASSUMED_CONFIG,
        objectives: Objectives | None = None,
    ) -> None:
        self.router = router
        self.context = context
        self.authenticator = authenticator
        self.decisions = decisions
        self.max_body = max_body
        self.bodies = bodies
        self.max_unsized = max_unsized
        #: With auth on, the token is the gateway's business: model servers do not get it unless that is asked for.
        self.removed_headers = () if authenticator is None or forward_token else (AUTHORIZATION,)
        #: … nor in the other headers that it may be in.
        self.token_headers = () if authenticator is None or forward_token else authenticator.token_headers
        self.explain_to_clients = explain_to_clients
        self.sampler = sampler
        #: The claim that must be true for a client that may learn how its prompt compares with those of others.
        self.shares_claim = shares_claim
        self.identity_headers = identity_headers
        #: With hyphens for underscores: some servers take the one for the other.
        self.identity_names = frozenset([name.replace("_", "-") for name in identity_headers])
        self.foreign = foreign
        self.catalogue = catalogue
        #: Whether bodies may steer engines.
        self.engine_controls = engine_controls
        self.assumed = assumed
        self.objectives = objectives
        self.guessed = Repeats(log, "a body cannot be read and may be a part of one: Envoy does not tell its body mode")

    def explain(self, path: str, body: bytes) -> dict[str, Any]:
        """The decision that a request with this body would get now. Nothing is routed, counted or remembered.

        Raises:
            Refusal: it would be refused.
        """
        parsed = parse(path, body)
        parsed.prompt.chars_per_token = self.context.characters.per_token(parsed.model)
        request = Request(model=parsed.model, prompt=parsed.prompt)
        pool, request, decision = self.router.choose(request, self.context.clock(), record=False)
        log_of_one = DecisionLog(1)
        log_of_one.add(self.context.wall_clock(), request, decision, model=parsed.model, pool=pool.name)
        return next(log_of_one.rows(1))

    def open(self) -> "Exchange":
        """An exchange for a new stream. `close()` it, whatever happens."""
        return Exchange(self)


class Exchange:
    """One ext_proc stream's way through the pipeline."""

    __slots__ = (
        "_closed", "_flight", "_head", "_hold", "_identity", "_model", "_pipeline", "_rewrite_answer", "_session",
        "_started", "pending", "push",
    )  # fmt: skip

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._session = Session(max_body=pipeline.max_body, assumed=pipeline.assumed)
        self._started = pipeline.context.clock()
        self._head: RequestHeaders | None = None
        self._identity: Identity | None = None
        #: Of the model, as the client gave it.
        self._model = ""
        #: None until the request was sent on.
        self._flight: Flight | None = None
        self._closed = False
        #: Whether its answer is to name the model as the client did, and would not.
        self._rewrite_answer = False
        #: Await this and call `resume()` before the next event is handed in.
        self.pending: Pending | None = None
        #: Sends replies to which no event gave the occasion.
        self.push: Callable[[list[Reply]], None] | None = None
        #: What Envoy may hold of its body.
        self._hold: Hold | None = None
        pipeline.context.metrics.opened()

    def handle(self, event: Event) -> list[Reply]:
        """The replies to `event`, in order.

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
            elif action is not None and self._flight is not None:
                # Otherwise Envoy answers by itself, before there was a pick.
                self._flight.observe(action)
                if self._rewrite_answer and isinstance(action, ResponseHeaders):
                    self._name_as_asked(action.headers, self._flight.model)
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
        """The stream is over: releases all that the request held. Further calls do nothing."""
        if self._closed:
            return
        self._closed = True
        self._pipeline.context.metrics.closed()
        if self._hold is not None and self._pipeline.bodies is not None:
            self._pipeline.bodies.release(self._hold)
        if self._flight is not None:
            self._flight.end()

    def _authenticate(self, head: RequestHeaders, *, final: bool) -> None:
        authenticator = self._pipeline.authenticator
        if authenticator is not None:
            verdict = authenticator.check(head.headers, now=self._pipeline.context.wall_clock(), final=final)
            if isinstance(verdict, Pending):
                self.pending = verdict
                return
            self._identity = verdict
            self._pipeline.context.metrics.authenticated("ok")
        catalogue = self._pipeline.catalogue
        if catalogue is not None:
            page = catalogue.answer(head.headers, self._identity, self._pipeline.router.routes)
            if page is not None:
                self._session.answer(page, "models")
                return
        if self._pipeline.bodies is not None and not head.end_of_stream:
            self._hold = self._reserve(self._pipeline.bodies, head.headers)
        ready = self._session.proceed(self._admission())
        if ready is not None:
            self._decide(ready)

    def _reserve(self, bodies: Bodies, headers: Headers) -> Hold | None:
        """Room for the body, before Envoy holds it."""
        length = headers.raw(CONTENT_LENGTH)
        # Envoy holds no more of one that does not say; what is no number does not come through it.
        size = int(length) if length is not None and length.isdigit() else self._pipeline.max_unsized
        if size > self._pipeline.max_body:
            raise body_too_large(self._pipeline.max_body)
        try:
            tenant = tenant_of(self._identity, headers)
            return bodies.take(tenant, size, self._pipeline.context.clock(), self._evict)
        except TooManyBytes as error:
            raise too_many_bodies(str(error)) from None

    def _evict(self) -> None:
        """The body, which is not whole, has to end."""
        self._refuse(body_too_slow())
        if self.push is not None:
            self.push(self._session.replies_to_send())

    def _decide(self, ready: RequestReady) -> None:
        if self._hold is not None:
            self._hold.whole = True
        pipeline = self._pipeline
        context = pipeline.context
        now = context.clock()
        headers = ready.head.headers
        reading = self._read(ready, headers)
        parsed = reading.parsed
        if parsed is not None:
            parsed.prompt.chars_per_token = context.characters.per_token(parsed.model)
        request = Request(
            id=headers.get(REQUEST_ID),
            model=parsed.model if parsed is not None else "",
            prompt=parsed.prompt if parsed is not None else Prompt(),
            subset=None if ready.subset is None else frozenset(ready.subset),
            priority=pipeline.objectives.priority(headers) if pipeline.objectives else 0,
            lookup=self._lookup,
        )
        self._model = request.model
        identity = self._identity
        if parsed is not None and (parsed.steering or parsed.adapters):
            self._check_steering(parsed)
        if identity is not None and not identity.may_use(request.model):
            what = f"the model {shown(request.model)!r}" if request.model else "requests that name no model"
            raise forbidden(f"The token does not allow {what}.", detail="model_not_allowed")
        routes = pipeline.router.routes
        if routes is not None or (identity is not None and identity.models is not None):
            one_model(reading)
        asked = request.model
        known = parsed is not None and parsed.api is not Api.GENERIC
        pool, request, decision = pipeline.router.choose(request, now, needs_model=known)
        body = _body(reading, pool, request, decision)
        if asked and request.model != asked:
            route = None if routes is None else routes.find(asked)
            self._rewrite_answer = route is not None and route.rewrite_answers
        subject = identity.subject if identity is not None else ""
        trace = None if pipeline.sampler is None else pipeline.sampler.begin(headers.get(TRACEPARENT))
        flight = Flight(context, pool, request, decision, parsed, headers, subject, self._started, now, trace)
        self._flight = flight
        mutation = self._mutation(pool, decision)
        if trace is not None:
            mutation = with_header(mutation, TRACEPARENT, trace.header)
        if body is not None and headers.raw(CONTENT_LENGTH) is not None:
            mutation = with_header(mutation, CONTENT_LENGTH, str(len(body)))
        if body is not None and reading.encoding:
            mutation = without_header(mutation, CONTENT_ENCODING)
        self._session.route(mutation, body, Tag(flight.key, self._explanation(pool, decision)))
        flight.decision_seconds = context.clock() - now
        context.metrics.decided(flight.decision_seconds, decision.prefix_match)
        pipeline.decisions.add(context.wall_clock(), request, decision, model=asked, pool=pool.name)
        if log.isEnabledFor(logging.DEBUG):
            extra = {"request_id": request.id, "model": asked, "pool": pool.name, "pods": destination(decision.pods)}
            log.debug("decided", extra={**extra, "scores": decision.explain(limit=4)})

    def _check_steering(self, parsed: ParsedRequest) -> None:
        """Whether the body may go to an engine, judged by its fields other than the model's name."""
        if parsed.steering and not self._pipeline.engine_controls:
            field = parsed.steering[0]
            message = f"`{field}` is not for clients of this gateway."
            raise bad_request(message, code="unsupported_parameter", param=field)
        for adapter in parsed.adapters:
            if self._identity is not None and not self._identity.may_use(adapter):
                raise forbidden(f"The token does not allow the model {shown(adapter)!r}.", detail="model_not_allowed")

    def _admission(self) -> Mutation:
        """The mutation before the decision: all that follows from the headers alone.

        Envoy may never ask again: it does not for a body that is nothing but trailers.
        """
        identity, pipeline = self._identity, self._pipeline
        told = self._told()
        removed = self._removed(told)
        if pipeline.foreign and self._head is not None and self._head.headers.raw(DESTINATION) is not None:
            removed = (*removed, DESTINATION)
        # Where a client may not go everywhere, its destination must be known before the request is let in.
        admitted = identity is not None and identity.models is None and pipeline.router.routes is None
        return admission(told, removed, admitted) if told or removed or admitted else NO_MUTATION

    def _name_as_asked(self, headers: Headers, model: str) -> None:
        names = answer_names(model, headers.get(CONTENT_TYPE), headers.get(CONTENT_ENCODING))
        if names is not None:
            self._session.rewrite_answer(names)

    def _mutation(self, pool: Pool, decision: Decision) -> Mutation:
        told: tuple[tuple[str, str], ...] = ()
        removed: tuple[str, ...] = ()
        if not self._session.head_answered:
            told = self._told()
            removed = self._removed(told)
        if decision.prefill is not None:
            told = (*told, (PREFILLER, decision.prefill.pod.address))
            removed = tuple([one for one in removed if one != PREFILLER])
        request_id = self._head.headers.get(REQUEST_ID) if self._head is not None else ""
        if may_be_address(request_id) and not self._pipeline.engine_controls:
            # For the engine alone: logs have the client's own.
            told = (*told, (REQUEST_ID, str(UUID(int=self._pipeline.context.rng.getrandbits(128), version=4))))
        # Without routes there is one pool, and Envoy need not know its name.
        name = "" if self._pipeline.router.routes is None else pool.name
        return Mutation(told, removed, destination(decision.pods), name)

    def _explanation(self, pool: Pool, decision: Decision) -> str:
        """The decision in words, for a client that asks and may."""
        if not self._pipeline.explain_to_clients or self._head is None or self._head.headers.get(DEBUG) != "true":
            return ""
        words = {"pool": pool.name, "prefix_match": decision.prefix_match, **decision.explain(limit=1)[0]}
        if not self._may_see_shares():
            # The cached share of a prompt reveals, block by block, the prompts of others.
            words = {name: words[name] for name in ("pool", "pod", "name")}
        return msgspec.json.encode(words).decode()

    def _may_see_shares(self) -> bool:
        """Whether the client may know how its prompt compares with those of others. With auth off there is no other."""
        identity = self._identity
        if self._pipeline.authenticator is None:
            return True
        path = self._pipeline.shares_claim
        return identity is not None and path is not None and claim(identity.claims, path) is True

    def _told(self) -> tuple[tuple[str, str], ...]:
        """Identity headers. A claim that is no plain text is left out: it could end a header, or mean another one."""
        identity, names = self._identity, self._pipeline.identity_headers
        if identity is None or not names:
            return ()
        claims = identity.claims
        told = [(name, claim(claims, path)) for name, path in names.items()]
        return tuple(
            [(name, text) for name, text in told if isinstance(text, str) and text.isascii() and text.isprintable()]
        )

    def _removed(self, told: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
        """Headers that go no further; `told` are set, and may not be among them."""
        pipeline = self._pipeline
        removed = pipeline.removed_headers
        if self._head is None:
            return removed
        headers = self._head.headers
        for name in pipeline.token_headers:
            if headers.raw(name) is not None:
                removed = (*removed, name)
        if not pipeline.foreign:
            return removed
        set_here = dict(told)
        found = headers.control(pipeline.identity_names)
        return removed + tuple([name for name in found if name not in set_here and name not in removed])

    def _read(self, ready: RequestReady, headers: Headers) -> Reading:
        """The content of the request."""
        body = ready.body
        try:
            return read(headers, body, limit=self._pipeline.max_body)
        except Refusal:
            if ready.complete or not body:
                raise
            if not ready.told:
                self._pipeline.guessed.warn("set transport.bodyMode to Envoy's request_body_mode")
                raise body_not_whole() from None
            raise body_too_large(len(body)) from None

    def _lookup(self, kind: str, name: str, /) -> str | None:
        if kind == "header" and self._head is not None:
            value = self._head.headers.raw(name)
            return None if value is None else value.decode("latin-1")
        if kind == "cookie" and self._head is not None:
            return self._head.headers.cookie(name)
        if kind == "claim" and self._identity is not None:
            told = claim(self._identity.claims, name)
            return told if isinstance(told, str) else None
        return None

    def _refuse(self, refusal: Refusal) -> None:
        head = self._head
        if head is not None and speaks_anthropic(head.headers):
            refusal = AnthropicRefusal(refusal, head.headers.get(REQUEST_ID))
        self._session.reject(refusal)
        metrics = self._pipeline.context.metrics
        if self._identity is None and self._pipeline.authenticator is not None:
            metrics.authenticated(refusal.detail)  # no other refusal comes before the client is known
        reason = refusal.detail if refusal.status in (401, 403) else refusal.code or "refused"
        metrics.refused(refusal.status, reason)
        request_id = head.headers.get(REQUEST_ID) if head is not None else ""
        if self._pipeline.context.witnesses:
            self._tell_refused(refusal, request_id)
        if log.isEnabledFor(logging.INFO):
            extra = {"request_id": request_id, "status": refusal.status, "code": refusal.code}
            log.info("refused", extra={**extra, "detail": refusal.detail})

    def _tell_refused(self, refusal: Refusal, request_id: str) -> None:
        pipeline, identity = self._pipeline, self._identity
        context = pipeline.context
        headers = self._head.headers if self._head is not None else Headers()
        refused = Refused(
            at=context.wall_clock(),
            seconds=context.clock() - self._started,
            request_id=request_id,
            path=headers.get(PATH).partition("?")[0],
            model=self._model,
            subject=identity.subject if identity is not None else "",
            status=refusal.status,
            code=refusal.code or "refused",
            detail=refusal.detail,
            trace=None if pipeline.sampler is None else pipeline.sampler.begin(headers.get(TRACEPARENT)),
        )
        context.tell_refused(refused)


def _body(reading: Reading, pool: Pool, request: Request, decision: Decision) -> bytes | None:
    """The body that goes to the pod in place of the client's; None: that one."""
    named_elsewhere = (
        reading.model and not reading.in_body and reading.parsed is not None and reading.parsed.api is not Api.GENERIC
    )
    if request.model != reading.model or (named_elsewhere and reading.body):
        try:
            return with_model(reading, request.model)
        except Refusal:
            take_back(decision)
            raise
    # Engines take no encodings, unless it is known that they do.
    return reading.body if reading.encoding and reading.encoding not in pool.accepts else None
