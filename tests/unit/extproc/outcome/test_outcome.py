import pytest

from extproc.outcome.outcome import STREAM_TAG, TTFT_TAG, UNKNOWN, Outcome, from_headers, from_log, from_trailers
from extproc.protocol.events import LogEntry, ResponseHeaders, ResponseTrailers, TokenUsage
from extproc.protocol.headers import Headers

ATTRIBUTES = {
    "response.code": 200.0,
    "response.code_details": "via_upstream",
    "upstream.address": "10.0.0.2:8000",
    "upstream.request_attempt_count": 2.0,
}


def test_the_access_log_tells_everything() -> None:
    tags = {TTFT_TAG: "101241", STREAM_TAG: "404181"}
    entry = LogEntry("k", 200, "10.0.0.2:8000", 2, "via_upstream", TokenUsage(10, 4, 5), tags)
    outcome = from_log(entry)
    assert outcome == Outcome(
        status=200,
        served="10.0.0.2:8000",
        attempts=2,
        ttft=0.101241,
        stream=0.404181,
        usage=TokenUsage(10, 4, 5),
        details="via_upstream",
    )
    assert outcome.tpot == pytest.approx(0.404181 / 4)


def test_what_nobody_tells_is_unknown_and_not_zero() -> None:
    assert from_log(LogEntry("k", tags={TTFT_TAG: "-", STREAM_TAG: ""})) == UNKNOWN
    assert from_trailers(ResponseTrailers(Headers()), UNKNOWN) == UNKNOWN
    assert UNKNOWN.tpot is None


def test_trailers_alone_tell_what_the_gateway_adds_to_them() -> None:
    outcome = from_trailers(ResponseTrailers(Headers(), attributes=ATTRIBUTES), UNKNOWN)
    assert outcome == Outcome(status=200, served="10.0.0.2:8000", attempts=2, details="via_upstream")


@pytest.mark.parametrize("tokens", [None, 0, 1])
def test_one_token_has_no_time_per_token(tokens: int | None) -> None:
    assert Outcome(stream=1.0, usage=TokenUsage(completion=tokens)).tpot is None


def test_trailers_add_to_what_the_headers_said() -> None:
    event = ResponseHeaders(Headers([(":status", b"503")]), served="10.0.0.1:8000", attributes=ATTRIBUTES)
    early = from_headers(event)
    assert early == Outcome(status=503, served="10.0.0.1:8000", attempts=2, details="via_upstream")
    assert from_trailers(ResponseTrailers(Headers()), early) == early


@pytest.mark.parametrize("status", [b"", b"abc", b"\xff"])
def test_a_strange_status_is_unknown(status: bytes) -> None:
    assert from_headers(ResponseHeaders(Headers([(":status", status)]))).status is None


def test_the_access_log_tells_of_failures() -> None:
    tags = {TTFT_TAG: "51030", STREAM_TAG: "-"}
    entry = LogEntry(key="k", status=503, served="10.0.0.2:80", attempts=2, details="via_upstream", tags=tags)
    assert from_log(entry) == Outcome(
        status=503, served="10.0.0.2:80", attempts=2, ttft=0.05103, details="via_upstream"
    )
    # No answer was ever sent: the client left.
    assert from_log(LogEntry(key="k", status=0)) == UNKNOWN


@pytest.mark.parametrize(
    ("told", "seconds"),
    [("7", 7.0), ("0", 0.0), ("-", 1.0), ("", 1.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 1.0), ("9" * 20, 1.0)],
)
def test_when_a_pod_wants_the_next_request(told: str, seconds: float) -> None:
    assert from_log(LogEntry(key="k", status=429, tags={"retry-after": told})).retry_after == seconds
    headers = ResponseHeaders(Headers([(":status", b"429"), ("retry-after", told.encode())]))
    assert from_headers(headers).retry_after == seconds
