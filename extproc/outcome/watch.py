"""One answer as the response phases of its ext_proc stream show it: all of them, some, or only the trailers."""

from extproc.outcome.outcome import UNKNOWN, Outcome, from_headers, from_trailers
from extproc.outcome.usage import UsageReader
from extproc.parsers import Api
from extproc.protocol.events import ResponseBody, ResponseHeaders, ResponseTrailers
from extproc.protocol.headers import CONTENT_TYPE


class AnswerWatch:
    """Builds the outcome of a request out of what is seen of its answer. Hand it each event as it comes.

    Args:
        api: of the request.
        sent_at: when the request was sent on, monotonic seconds; the origin of its time to first token.
    """

    __slots__ = ("_api", "_first_at", "_outcome", "_reader", "_sent_at")

    def __init__(self, api: Api, sent_at: float) -> None:
        self._api = api
        self._sent_at = sent_at
        self._first_at: float | None = None
        self._reader: UsageReader | None = None
        self._outcome = UNKNOWN

    def headers(self, event: ResponseHeaders) -> None:
        self._outcome = from_headers(event)
        self._reader = UsageReader(self._api, event.headers.get(CONTENT_TYPE))

    def body(self, event: ResponseBody, now: float) -> None:
        """The next piece of the answer, cut anywhere."""
        if event.body:
            if self._first_at is None:
                self._first_at = now
            if self._reader is not None:
                self._reader.feed(event.body)
        if event.end_of_stream:
            self._end(now)

    def trailers(self, event: ResponseTrailers, now: float) -> None:
        self._end(now)
        self._outcome = from_trailers(event, self._outcome)

    @property
    def outcome(self) -> Outcome:
        """The outcome known by now. A status of None: no source reported how the request ended."""
        return self._outcome

    def _end(self, now: float) -> None:
        first_at, seen = self._first_at, self._outcome
        if first_at is None:
            return
        self._first_at = None
        self._outcome = Outcome(
            status=seen.status,
            served=seen.served,
            attempts=seen.attempts,
            ttft=first_at - self._sent_at,
            stream=now - first_at,
            usage=seen.usage if self._reader is None else self._reader.usage,
            details=seen.details,
            retry_after=seen.retry_after,
        )
