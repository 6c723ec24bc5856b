"""However Envoy cuts bodies into chunks: the bytes that leave are those that came, and the request ended the same."""

import json
import random
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from extproc import wire
from extproc._pb import ProcessingRequest, ProcessingResponse
from extproc.decisions import DecisionLog
from extproc.ended import Ended
from extproc.events import BodyMode
from extproc.ledger import Ledger
from extproc.metrics import Metrics
from extproc.pipeline import Pipeline
from extproc.pools import Pool
from extproc.rewrite import replace_model
from extproc.routes import Route, Routes, Rule, Target
from extproc.session import MAX_CHUNK
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
        self.pipeline = Pipeline(
            pools={"default": Pool("default", store, profile)},
            routes=ROUTES if routes else None,
            authenticator=None,
            metrics=Metrics(list),
            decisions=DecisionLog(0),
            ledger=Ledger(),
            witnesses=[self],
            max_body=4 << 20,
            forward_token=False,
            identity_headers={},
            clock=lambda: 1.0,
            wall_clock=lambda: 1.0,
            rng=random.Random(1),
        )

    def ended(self, ended: Ended) -> None:
        self.over.append(ended)


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


def drive(
    world: World, request: list[bytes], response: list[bytes], *, mode: BodyMode, sse: bool, trailers: tuple[bool, bool]
) -> Sent:
    """One request whose bodies come in these chunks, as a gateway of that mode sends it."""
    exchange = world.pipeline.open()
    sent = Sent()

    def say(message: Any) -> None:
        for reply in exchange.handle(wire.decode(message.SerializeToString())):
            sent.take(wire.encode(reply))

    head = ProcessingRequest()
    for name, value in ((":method", b"POST"), (":path", b"/v1/chat/completions")):
        head.request_headers.headers.headers.add(key=name, raw_value=value)
    config = head.protocol_config
    config.request_body_mode = config.response_body_mode = int(mode)
    config.send_body_without_waiting_for_header_response = mode is STREAMED
    say(head)
    for index, piece in enumerate(request):
        assert sent.kinds == []  # nothing is said before the decision
        message = ProcessingRequest()
        message.request_body.body = piece
        message.request_body.end_of_stream = index == len(request) - 1 and not trailers[0]
        say(message)
    if trailers[0]:
        message = ProcessingRequest()
        message.request_trailers.SetInParent()
        say(message)
    assert sent.kinds[0] == "request_headers"
    message = ProcessingRequest()
    kind = b"text/event-stream" if sse else b"application/json"
    for name, value in ((":status", b"200"), ("content-type", kind)):
        message.response_headers.headers.headers.add(key=name, raw_value=value)
    message.metadata_context.filter_metadata["envoy.lb"].update(
        {"x-gateway-destination-endpoint-served": PODS[0].address}
    )
    say(message)
    for index, piece in enumerate(response):
        message = ProcessingRequest()
        message.response_body.body = piece
        message.response_body.end_of_stream = index == len(response) - 1 and not trailers[1]
        say(message)
    if trailers[1]:
        message = ProcessingRequest()
        message.response_trailers.SetInParent()
        say(message)
    exchange.close()
    return sent


def cut(body: bytes, places: list[int]) -> list[bytes]:
    """The body in pieces; equal places give empty ones."""
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
    document = {"model": draw(st.text(min_size=1, max_size=8)), "messages": [{"role": "user", "content": prompt}]}
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


@settings(deadline=None, max_examples=150)
@given(requests(), PLACES, responses(), PLACES, st.tuples(st.booleans(), st.booleans()), st.booleans())
def test_full_duplex(
    request: bytes,
    places: list[int],
    answer: tuple[bytes, bool],
    answer_places: list[int],
    trailers: tuple[bool, bool],
    routes: bool,
) -> None:
    response, sse = answer
    world, whole = World(routes=routes), World(routes=routes)
    sent = drive(
        world, cut(request, places), cut(response, answer_places), mode=FULL_DUPLEX, sse=sse, trailers=trailers
    )
    once = drive(whole, [request], [response], mode=FULL_DUPLEX, sse=sse, trailers=trailers)
    expected = replace_model(request, OTHER) if routes else request
    assert bytes(sent.request) == bytes(once.request) == expected
    assert bytes(sent.response) == bytes(once.response) == response
    # An end is said once: by the last chunk, or by the trailers.
    assert sent.ends == [not one for one in trailers]
    assert [sent.kinds.count(f"{half}_trailers") for half in ("request", "response")] == list(trailers)
    same_end(world, whole)


@settings(deadline=None, max_examples=60)
@given(requests(), PLACES, responses(), PLACES, st.tuples(st.booleans(), st.booleans()), st.booleans())
def test_streamed(
    request: bytes,
    places: list[int],
    answer: tuple[bytes, bool],
    answer_places: list[int],
    trailers: tuple[bool, bool],
    routes: bool,
) -> None:
    """Envoy keeps the chunks, and wants one word on each."""
    response, sse = answer
    world, whole = World(routes=routes), World(routes=routes)
    pieces, answers = cut(request, places), cut(response, answer_places)
    sent = drive(world, pieces, answers, mode=STREAMED, sse=sse, trailers=trailers)
    drive(whole, [request], [response], mode=STREAMED, sse=sse, trailers=trailers)
    assert len(sent.kept) == len(pieces)
    assert sent.kinds.count("response_body") == len(answers)
    left = b"".join([piece if kept is None else kept for piece, kept in zip(pieces, sent.kept, strict=True)])
    assert left == (replace_model(request, OTHER) if routes else request)
    same_end(world, whole)


def same_end(world: World, whole: World) -> None:
    """The one request of each was picked for, counted and measured the same."""
    (ended,), (expected,) = world.over, whole.over
    assert ended.outcome == expected.outcome
    assert ended.outcome.status == 200
    assert ended.outcome.usage.prompt is not None
    assert ended.outcome.served == PODS[0].address
    assert ended.request.model == expected.request.model
    assert ended.decision.uncached_tokens == expected.decision.uncached_tokens
