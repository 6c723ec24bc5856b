"""Reads token usage out of one answer, chunk by chunk, streamed or not."""

import msgspec

from extproc.outcome.usage.dialects import MARKER, UsageCounts
from extproc.outcome.usage.sse import SseParser
from extproc.outcome.usage.unary import UnaryBody
from extproc.parsers.base import Api
from extproc.protocol.events import TokenUsage

_EVENT_STREAM = "text/event-stream"
_EVENT_ENDS = (b"\n\n", b"\r\n\r\n")


class _Holder(msgspec.Struct):
    usage: object = None


class _Event(msgspec.Struct):
    """Where the events of streams have their usage: at the top, in the response, or in the message that begins."""

    usage: object = None
    #: OpenAI responses: `response.completed`, `response.incomplete`, `response.failed`.
    response: _Holder | None = None
    #: Anthropic: `message_start`.
    message: _Holder | None = None


_decode_event = msgspec.json.Decoder(_Event).decode


class UsageReader:
    """Usage of one answer. Nothing in an answer makes this class raise: counts that cannot be read are unknown.

    Args:
        api: The API of the request, whose names the answer uses.
        content_type: Of the answer, as in its header. Other types than JSON and event streams are not read; without
            one the answer is taken for JSON. Encoded (gzip) answers give no usage.
    """

    __slots__ = ("_counts", "_sse", "_unary")

    def __init__(self, api: Api, content_type: str) -> None:
        media_type = content_type.partition(";")[0].strip().lower()
        self._counts = UsageCounts(api)
        self._sse = SseParser() if media_type == _EVENT_STREAM else None
        self._unary = UnaryBody() if not media_type or media_type.endswith(("/json", "+json")) else None

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the answer, cut anywhere."""
        sse = self._sse
        if sse is not None:
            if MARKER not in chunk and chunk.endswith(_EVENT_ENDS) and sse.between_events:
                # Whole events, none with usage: nearly every chunk of a stream.
                return
            for data in sse.feed(chunk):
                if MARKER in data:
                    self._read_event(data)
        elif self._unary is not None:
            self._unary.feed(chunk)

    @property
    def usage(self) -> TokenUsage:
        """The usage known by now. For an answer that is not streamed, call once, at its end."""
        if self._unary is not None:
            self._counts.add(self._unary.usage())
        return self._counts.usage

    def _read_event(self, data: bytes) -> None:
        try:
            event = _decode_event(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return
        if event.message is not None:
            self._counts.add(event.message.usage, started=True)
        if event.response is not None:
            self._counts.add(event.response.usage)
        self._counts.add(event.usage)
