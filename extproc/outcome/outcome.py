"""How a request ended, put together from the sources that Envoy provides.

Sources:

- the access log of our own Envoy, whose filters load it with timings and token usage;
- the response messages of the stream, where a gateway sends them: headers, body, trailers;
- the end of the stream, which shows only that the request is over.
"""

from collections.abc import Mapping

import msgspec

from extproc.protocol.events import LogEntry, ResponseHeaders, ResponseTrailers, TokenUsage
from extproc.protocol.headers import STATUS

#: Tags of an entry (envoy/gateway.yaml): microseconds from the request's last byte to the answer's first body byte, and
#: from there to its last.
TTFT_TAG = "ttft-us"
STREAM_TAG = "stream-us"
#: The answer's header of that name.
RETRY_TAG = "retry-after"
#: Seconds for which a pod that answered 429 gets no request while others take some, where it does not say how many.
DEFAULT_RETRY_AFTER = 1.0
#: Of a number of seconds that is believed to be one.
_DIGITS = 10


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a request ended. None and empty mean that no source reported the value."""

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
    #: Seconds after which an answer of 429 may be followed by another request.
    retry_after: float = DEFAULT_RETRY_AFTER

    @property
    def tpot(self) -> float | None:
        """Seconds per output token after the first; None where tokens or time are not known, or there is one token."""
        tokens = self.usage.completion
        if self.stream is None or tokens is None or tokens < 2:
            return None
        return self.stream / (tokens - 1)


UNKNOWN = Outcome()


def from_trailers(event: ResponseTrailers, earlier: Outcome) -> Outcome:
    attributes = event.attributes
    return Outcome(
        status=_integer(attributes, "response.code") or earlier.status,
        served=event.served or _text(attributes, "upstream.address") or earlier.served,
        attempts=_integer(attributes, "upstream.request_attempt_count") or earlier.attempts,
        ttft=earlier.ttft,
        stream=earlier.stream,
        usage=earlier.usage,
        details=_text(attributes, "response.code_details") or earlier.details,
        retry_after=earlier.retry_after,
    )


def from_headers(event: ResponseHeaders) -> Outcome:
    attributes = event.attributes
    status = event.headers.get(STATUS)
    return Outcome(
        status=int(status) if status.isdecimal() else None,
        served=event.served or _text(attributes, "upstream.address"),
        attempts=_integer(attributes, "upstream.request_attempt_count"),
        details=_text(attributes, "response.code_details"),
        retry_after=_retry_after(event.headers.get(RETRY_TAG)),
    )


def from_log(entry: LogEntry) -> Outcome:
    return Outcome(
        status=entry.status or None,
        served=entry.served,
        attempts=entry.attempts or None,
        ttft=_seconds(entry.tags.get(TTFT_TAG, "")),
        stream=_seconds(entry.tags.get(STREAM_TAG, "")),
        usage=entry.usage,
        details=entry.details,
        retry_after=_retry_after(entry.tags.get(RETRY_TAG, "")),
    )


def _integer(attributes: Mapping[str, object], name: str) -> int | None:
    value = attributes.get(name)
    return int(value) if isinstance(value, int | float) else None


def _text(attributes: Mapping[str, object], name: str) -> str:
    value = attributes.get(name)
    return value if isinstance(value, str) else ""


def _seconds(microseconds: str) -> float | None:
    """Seconds, or None: Envoy writes `-` for a time that it does not have."""
    return int(microseconds) / 1e6 if microseconds.isdecimal() else None


def _retry_after(text: str) -> float:
    """Seconds; a date, or whatever else it may be, is the default."""
    return float(text) if text.isascii() and text.isdecimal() and len(text) < _DIGITS else DEFAULT_RETRY_AFTER
