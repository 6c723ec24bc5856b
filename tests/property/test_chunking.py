"""However Envoy cuts bodies into chunks: the bytes that leave are those that came, and the request ended the same."""

import json
import random
from itertools import pairwise
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from support.envoy_messages import ProcessingRequest, ProcessingResponse

from extproc import wire
from extproc.outcome.ledger import Ledger
from extproc.protocol.events import BodyMode
from extproc.protocol.session import MAX_CHUNK
from extproc.request.context import Context
from extproc.request.pipeline import Pipeline
from extproc.request.rewrite_body import replace_model
from extproc.routing.choice import Router
from extproc.routing.pool import Pool
from extproc.routing.routes import Route, Routes, Rule, Target
from extproc.telemetry.decision_log import DecisionLog
from extproc.telemetry.finished import Ended, Refused
from extproc.telemetry.metrics import Metrics
from scheduler.builder import build
from scheduler.config import SchedulerConfig
from scheduler.pool.store import PodStore
from scheduler.registry import in_tree_registry
from scheduler.types import Pod

PODS = [Pod("10.0.0.1:80"), Pod("10.0.0.2:80")]
FULL_DUPLEX, STREAMED = BodyMode.FULL_DUPLEX_STREAMED, BodyMode.STREAMED
OTHER = 'the "other" name'


class World:
    """A pipeline whose clock stands still, and how its requests ended. `routes` rewrites every model to OTHER."""

    def __init__(self, *, routes: bool) -> None:
        self.over: list[Ended] = []
        store = PodStore(2.0, on_left=lambda _pod: None)
        store.set_pods(PODS, 1.0)
        profile, _ = build(SchedulerConfig(), in_tree_registry())
        rng = random.Random(1)
        self.pipeline = Pipeline(
            router=Router({"default": Pool("default", store, profile)}, ROUTES if routes else None, rng=rng),
            context=Context(
                metrics=Metrics(list),
                ledger=Ledger(),
                witnesses=[self],
                clock=lambda: 1.0,
                wall_clock=lambda: 1.0,
                rng=rng,
            ),
            authenticator=None,
            decisions=DecisionLog(0),
            max_body=16 << 20,
            forward_token=False,
            identity_headers={},
        )

    def ended(self, ended: Ended) -> None:
        self.over.append(ended)

    def refused(self, refused: Refused) -> None:
        pass


RENAMED = Route("all", (Target("default", model=OTHER),))
ROUTES = Routes([Rule(RENAMED)], unnamed=RENAMED)


class Sent:
    """What left of a request and its answer, as Envoy sees it."""

    def __init__(self) -> None:
        self.request = bytearray()
        self.response = bytearray()
        #: Said ends of each, and the kinds of replies in their order.
        self.ends = [0, 0]
        self.kinds: list[str] = []
        self.kept: list[bytes | None] = []

    def take(self, data: bytes) -> None:
        reply = ProcessingResponse.FromString(data)
        kind = reply.WhichOneof("response")
        self.kinds.append(kind)
        if kind not in ("request_body", "response_body"):
            return
        index = kind == "response_body"
        mutation = getattr(reply, kind).response.body_mutation
        what = mutation.WhichOneof("mutation")
        if what == "streamed_response":
            piece = mutation.streamed_response
            assert len(piece.body) <= MAX_CHUNK
            assert not self.ends[index]
            (self.response if index else self.request).extend(piece.body)
            self.ends[index] += piece.end_of_stream
        elif not index:
            self.kept.append({None: None, "body": mutation.body, "clear_body": b""}[what])


class Case(NamedTuple):
    """A request, its answer, and where both are cut. Equal places give empty pieces."""

    request: bytes
    request_places: list[int]
    response: bytes
    sse: bool
    response_places: list[int]
    #: Whether request and answer have them.
    trailers: tuple[bool, bool]
    routes: bool

    @property
    def request_to_send(self) -> bytes:
        return replace_model(self.request, OTHER) if self.routes else self.request


def drive(case: Case, mode: BodyMode, request: list[bytes], response: list[bytes]) -> tuple[Sent, Ended]:
    """One request whose bodies come in these pieces, as a gateway of that mode sends it, and how it ended."""
    world = World(routes=case.routes)
    exchange = world.pipeline.open()
    sent = Sent()

    def say(message: Any) -> None:
        for reply in exchange.handle(wire.decode(message.SerializeToString())):
            sent.take(wire.encode(reply))

    def say_headers(half: str, headers: dict[str, bytes], message: Any) -> None:
        for name, value in headers.items():
            getattr(message, f"{half}_headers").headers.headers.add(key=name, raw_value=value)
        say(message)

    def say_rest(half: str, pieces: list[bytes], *, trailers: bool) -> None:
        for index, piece in enumerate(pieces):
            # Nothing is said before the decision.
            assert half == "response" or not sent.kinds
            message = ProcessingRequest()
            body = getattr(message, f"{half}_body")
            body.body = piece
            body.end_of_stream = index == len(pieces) - 1 and not trailers
            say(message)
        if trailers:
            message = ProcessingRequest()
            getattr(message, f"{half}_trailers").SetInParent()
            say(message)

    head = ProcessingRequest()
    config = head.protocol_config
    config.request_body_mode = config.response_body_mode = int(mode)
    config.send_body_without_waiting_for_header_response = mode is STREAMED
    say_headers("request", {":method": b"POST", ":path": b"/v1/chat/completions"}, head)
    say_rest("request", request, trailers=case.trailers[0])
    assert sent.kinds[0] == "request_headers"
    head = ProcessingRequest()
    head.metadata_context.filter_metadata["envoy.lb"].update({"x-gateway-destination-endpoint-served": PODS[0].address})
    kind = b"text/event-stream" if case.sse else b"application/json"
    say_headers("response", {":status": b"200", "content-type": kind}, head)
    say_rest("response", response, trailers=case.trailers[1])
    exchange.close()
    (ended,) = world.over
    return sent, ended


def drive_cut_and_whole(case: Case, mode: BodyMode) -> tuple[Sent, Sent]:
    """What left where the bodies came in pieces, and where they came in one: the request ended the same."""
    pieces = cut(case.request, case.request_places), cut(case.response, case.response_places)
    (sent, ended), (whole, expected) = (
        drive(case, mode, *pieces),
        drive(case, mode, [case.request], [case.response]),
    )
    assert ended.outcome == expected.outcome
    assert ended.outcome.status == 200
    assert ended.outcome.usage.prompt is not None
    assert ended.outcome.served == PODS[0].address
    assert ended.request.model == expected.request.model
    assert ended.decision.uncached_tokens == expected.decision.uncached_tokens
    return sent, whole


def cut(body: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[start:end] for start, end in pairwise(bounds)]


PLACES = st.lists(st.integers(0, 1 << 20), max_size=12)


class Text(bytes):
    """Bytes that hypothesis does not write out: it warns of megabytes."""

    def __repr__(self) -> str:
        return f"{bytes(self[:200])!r}…, {len(self)} bytes"


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    prompt = draw(st.text(max_size=30)) * draw(st.sampled_from([1, 1, 20, 30_000]))
    document = {"model": draw(st.text(max_size=8).filter(str.strip)), "messages": [{"role": "user", "content": prompt}]}
    members = draw(st.permutations([*document.items(), ("stream", draw(st.booleans())), ("x", {"model": "y"})]))
    text = json.dumps(dict(members), ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1])))
    return Text(text.encode("utf-8", "surrogatepass"))


@st.composite
def responses(draw: st.DrawFn) -> tuple[bytes, bool]:
    """An answer with token usage, and whether it is a stream of events."""
    counts = st.integers(0, 10**6)
    usage = {"prompt_tokens": draw(counts), "completion_tokens": draw(counts)}
    text = draw(st.text(max_size=20)) * draw(st.sampled_from([1, 1, 10_000]))
    if not draw(st.booleans()):
        return Text(json.dumps({"choices": [{"message": {"content": text}}], "usage": usage}).encode()), False
    end = draw(st.sampled_from(["\n\n", "\r\n\r\n"]))
    events = [{"choices": [{"delta": {"content": text}}]}, {"choices": [], "usage": usage}]
    lines = [f"data: {json.dumps(event, ensure_ascii=draw(st.booleans()))}" for event in events]
    stream = "".join([line + end for line in [*lines, "data: [DONE]"]])
    return Text(stream.encode("utf-8", "surrogatepass")), True


@st.composite
def cases(draw: st.DrawFn) -> Case:
    request, request_places = draw(requests()), draw(PLACES)
    response, sse = draw(responses())
    trailers = draw(st.tuples(st.booleans(), st.booleans()))
    return Case(request, request_places, response, sse, draw(PLACES), trailers, draw(st.booleans()))


@settings(max_examples=150)
@given(cases())
def test_full_duplex(case: Case) -> None:
    sent, whole = drive_cut_and_whole(case, FULL_DUPLEX)
    assert bytes(sent.request) == bytes(whole.request) == case.request_to_send
    assert bytes(sent.response) == bytes(whole.response) == case.response
    # An end is said once: by the last chunk, or by the trailers.
    assert sent.ends == [not one for one in case.trailers]
    assert [sent.kinds.count(f"{half}_trailers") for half in ("request", "response")] == list(case.trailers)


@settings(max_examples=60)
@given(cases())
def test_streamed(case: Case) -> None:
    """Envoy keeps the chunks, and wants one word on each."""
    sent, _ = drive_cut_and_whole(case, STREAMED)
    pieces = cut(case.request, case.request_places)
    assert len(sent.kept) == len(pieces)
    assert sent.kinds.count("response_body") == len(case.response_places) + 1
    left = b"".join([piece if kept is None else kept for piece, kept in zip(pieces, sent.kept, strict=True)])
    assert left == case.request_to_send
