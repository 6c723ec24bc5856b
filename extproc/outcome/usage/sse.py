"""An incremental parser of server-sent events, for any chunking (HTML Living Standard §9.2.6).

Only the data of events is given out: the APIs of model servers say in it what kind of event it is.
"""

#: Bytes. The largest event of use is the last one of an OpenAI response, which repeats the whole answer and the
#: instructions and tools of its request: with 100 000 tokens some 500 KB.
MAX_EVENT = 1 << 20

_BOM = b"\xef\xbb\xbf"
_LF, _CR = 0x0A, 0x0D
_LINE_ENDS = (_LF, _CR)
_FIELD = b"data"
_FIELD_COLON = b"data:"


class SseParser:
    """Feed it chunks; it gives the data of each event that they complete.

    An event whose lines have more than `limit` bytes in all is skipped and not kept in memory.
    """

    __slots__ = ("_after_cr", "_data", "_limit", "_line", "_size", "_skip", "_started")

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._limit = limit
        #: The unfinished line.
        self._line = bytearray()
        #: Values of the data lines of the unfinished event, and the bytes of all of its finished lines.
        self._data: list[bytes] = []
        self._size = 0
        #: The unfinished event is too large.
        self._skip = False
        #: The last byte was a CR: a LF now would belong to it.
        self._after_cr = False
        #: Past the place of a byte order mark.
        self._started = False

    @property
    def between_events(self) -> bool:
        """Nothing is kept: what comes next begins an event."""
        return self._started and not (self._size or self._line or self._after_cr or self._skip)

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of the events that end in `chunk`, in their order. Never raises."""
        if not self._started:
            begun = bytes(self._line) + chunk
            self._line.clear()
            if len(begun) < len(_BOM) and _BOM.startswith(begun):
                self._line += begun
                return []
            self._started = True
            chunk = begun.removeprefix(_BOM)
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk[0] == _LF:
                chunk = chunk[1:]
        if not chunk:
            return []

        lines = chunk.splitlines()
        last = chunk[-1]
        rest = b"" if last in _LINE_ENDS else lines.pop()
        self._after_cr = last == _CR
        events: list[bytes] = []
        if lines:
            if self._line:
                lines[0] = bytes(self._line) + lines[0]
                self._line.clear()
            for line in lines:
                self._end_line(line, events)
        if rest:
            self._line += rest
            if self._size + len(self._line) > self._limit:
                self._drop()
                # One byte stays, so that the line is not taken for an empty one at its end.
                del self._line[1:]
        return events

    def _end_line(self, line: bytes, events: list[bytes]) -> None:
        if not line:
            if self._data:
                events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data = []
            self._size = 0
            self._skip = False
            return
        if self._skip:
            return
        self._size += len(line)
        if self._size > self._limit:
            self._drop()
        elif line.startswith(_FIELD_COLON):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
        elif line == _FIELD:
            self._data.append(b"")

    def _drop(self) -> None:
        self._skip = True
        self._data = []
