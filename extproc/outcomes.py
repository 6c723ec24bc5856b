"""How a request ended, put together from whatever Envoy tells of it.

Sources, best first; a later one only fills in what is missing:

- the response trailers message, which Envoy's own filters load with status, host, attempts, timings and token usage;
- the response headers and body messages, where a gateway sends them;
- the access log, for requests of which the stream said nothing: failures, and answers without token usage;
- the end of the stream, which says only that the request is over.
"""

from collections.abc import Mapping

import msgspec

from extproc.events import LogEntry, ResponseHeaders, ResponseTrailers, TokenUsage
from extproc.headers import STATUS, Headers

#: Trailers that Envoy adds for us (envoy/gateway.yaml): microseconds from the request's last byte to the answer's first
#: body byte, and from there to its last.
TTFT_TRAILER = "x-gateway-timing-ttft-us"
STREAM_TRAILER = "x-gateway-timing-stream-us"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a request ended. None and empty mean that nobody said."""

    status: int | None = None
    #: `ip:port` that answered, after retries.
    served: str = ""
    #: Tries that Envoy made upstream.
    attempts: int | None = None
    #: Seconds from the request's last byte sent upstream to the answer's first body byte.
    ttft: float | None = None
    #: Seconds from the answer's first body byte to its last.
    stream: float | None = None
    usage: TokenUsage = TokenUsage()
    #: Envoy's `%RESPONSE_CODE_DETAILS%`.
    details: str = ""

    @property
    def tpot(self) -> float | None:
        """Seconds per output token after the first; None where tokens or time are not known, or there is one token."""
        tokens = self.usage.completion
        if self.stream is None or tokens is None or tokens < 2:
            return None
        return self.stream / (tokens - 1)


UNKNOWN = Outcome()


def from_trailers(event: ResponseTrailers, earlier: Outcome = UNKNOWN) -> Outcome:
    attributes = event.attributes
    return Outcome(
        status=_integer(attributes, "response.code") or earlier.status,
        served=event.served or _text(attributes, "upstream.address") or earlier.served,
        attempts=_integer(attributes, "upstream.request_attempt_count") or earlier.attempts,
        ttft=_microseconds(event.headers, TTFT_TRAILER) or earlier.ttft,
        stream=_microseconds(event.headers, STREAM_TRAILER) or earlier.stream,
        usage=event.usage or earlier.usage,
        details=_text(attributes, "response.code_details") or earlier.details,
    )


def from_headers(event: ResponseHeaders) -> Outcome:
    attributes = event.attributes
    status = event.headers.get(STATUS)
    return Outcome(
        status=int(status) if status.isdecimal() else None,
        served=event.served or _text(attributes, "upstream.address"),
        attempts=_integer(attributes, "upstream.request_attempt_count"),
        details=_text(attributes, "response.code_details"),
    )


def from_log(entry: LogEntry) -> Outcome:
    return Outcome(
        status=entry.status or None,
        served=entry.served,
        attempts=entry.attempts or None,
        ttft=_seconds(entry.tags.get(TTFT_TRAILER, "")),
        stream=_seconds(entry.tags.get(STREAM_TRAILER, "")),
        usage=entry.usage,
        details=entry.details,
    )


def _integer(attributes: Mapping[str, object], name: str) -> int | None:
    value = attributes.get(name)
    return int(value) if isinstance(value, int | float) else None


def _text(attributes: Mapping[str, object], name: str) -> str:
    value = attributes.get(name)
    return value if isinstance(value, str) else ""


def _microseconds(headers: Headers, name: str) -> float | None:
    """Seconds, or None: Envoy writes `-` for a time that it does not have."""
    return _seconds(headers.get(name))


def _seconds(microseconds: str) -> float | None:
    return int(microseconds) / 1e6 if microseconds.isdecimal() else None
