"""One outcome, whatever tells of it: the response phases, the access log."""

import itertools
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.outcome.outcome import STREAM_TAG, TTFT_TAG, UNKNOWN, Outcome, from_log
from extproc.outcome.watch import AnswerWatch
from extproc.parsers import Api
from extproc.protocol.events import LogEntry, ResponseBody, ResponseHeaders, ResponseTrailers, TokenUsage
from extproc.protocol.headers import Headers

SERVED = "10.0.0.2:80"
USAGE = TokenUsage(10, 4, 5)
COUNTS = {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}
ATTRIBUTES = {
    "response.code": 200.0,
    "response.code_details": "via_upstream",
    "upstream.request_attempt_count": 2.0,
}


def sse() -> bytes:
    events: list[dict[str, object]] = [{"choices": [{"delta": {"content": f"word {n}"}}]} for n in range(5)]
    events.append({"choices": [], "usage": COUNTS})
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"


def unary() -> bytes:
    return json.dumps({"choices": [{"message": {"content": "words"}}], "usage": COUNTS}).encode()


def headers(content_type: str) -> ResponseHeaders:
    items = [(":status", b"200"), ("content-type", content_type.encode())]
    return ResponseHeaders(Headers(items), served=SERVED, attributes=ATTRIBUTES)


def by_log() -> Outcome:
    tags = {TTFT_TAG: "100000", STREAM_TAG: "400000"}
    return from_log(LogEntry("k", 200, SERVED, 2, "via_upstream", USAGE, tags))


def by_phases(content_type: str, body: bytes) -> Outcome:
    watch = AnswerWatch(Api.OPENAI_CHAT, 1.0)
    watch.headers(headers(content_type))
    watch.body(ResponseBody(b""), 1.05)
    watch.body(ResponseBody(body[:20]), 1.1)
    watch.body(ResponseBody(body[20:], end_of_stream=True), 1.5)
    return watch.outcome


SOURCES: dict[str, Callable[[], Outcome]] = {
    "access log": by_log,
    "sse phases": lambda: by_phases("text/event-stream; charset=utf-8", sse()),
    "json phases": lambda: by_phases("application/json", unary()),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_all_sources_give_the_same(source: Callable[[], Outcome]) -> None:
    outcome = source()
    assert outcome.ttft == pytest.approx(0.1)
    assert outcome.stream == pytest.approx(0.4)
    assert outcome.tpot == pytest.approx(0.1)
    assert (outcome.status, outcome.served, outcome.attempts) == (200, SERVED, 2)
    assert outcome.usage == USAGE
    assert outcome.details == "via_upstream"


@given(st.lists(st.integers(0, len(sse())), max_size=8))
def test_any_chunking_gives_the_same(cuts: list[int]) -> None:
    body = sse()
    places = sorted({0, *cuts, len(body)})
    watch = AnswerWatch(Api.OPENAI_CHAT, 0.0)
    watch.headers(headers("text/event-stream"))
    for start, end in itertools.pairwise(places):
        watch.body(ResponseBody(body[start:end], end_of_stream=end == len(body)), 1.0)
    assert watch.outcome.usage == USAGE


def test_trailers_after_a_body_end_it() -> None:
    watch = AnswerWatch(Api.OPENAI_CHAT, 1.0)
    watch.headers(headers("text/event-stream"))
    watch.body(ResponseBody(sse()), 1.1)
    watch.trailers(ResponseTrailers(Headers()), 1.5)
    assert (watch.outcome.usage, watch.outcome.stream) == (USAGE, pytest.approx(0.4))


def test_a_body_without_headers_has_times_and_no_usage() -> None:
    watch = AnswerWatch(Api.OPENAI_CHAT, 1.0)
    watch.body(ResponseBody(sse(), end_of_stream=True), 1.1)
    assert (watch.outcome.usage, watch.outcome.ttft) == (TokenUsage(), pytest.approx(0.1))


def test_nothing_seen_is_nothing_known() -> None:
    watch = AnswerWatch(Api.GENERIC, 1.0)
    watch.body(ResponseBody(b"", end_of_stream=True), 1.1)
    assert watch.outcome == UNKNOWN
