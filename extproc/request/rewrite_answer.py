"""The client's own name for the model in an answer that comes in pieces, and every other byte as it was."""

import msgspec

from extproc.errors import Refusal
from extproc.protocol.headers import JSON_TYPE
from extproc.protocol.session import AnswerNames
from extproc.request.rewrite_body import position, replace_model

#: Bytes of an answer, or of a line of a stream, that are held until they are whole. Longer ones go on unchanged:
#: answers of text have kilobytes, and only embeddings by the thousand have more.
MAX_HELD = 16 << 20

_EVENT_STREAM = "text/event-stream"
_DATA = b"data:"


def answer_names(model: str, content_type: str, content_encoding: str) -> AnswerNames | None:
    """Puts `model` into an answer with these headers; None for one that is neither JSON nor SSE, or compressed."""
    if content_encoding not in ("", "identity"):
        return None
    kind = content_type.partition(";")[0].strip().lower()
    if kind == _EVENT_STREAM:
        return StreamNames(model)
    return DocumentNames(model) if kind == JSON_TYPE else None


class _Held:
    """The bytes under way, held until they are whole or too many."""

    __slots__ = ("_held", "_max_held", "_model", "_too_long")

    def __init__(self, model: str, max_held: int = MAX_HELD) -> None:
        self._model = model
        self._max_held = max_held
        self._held = bytearray()
        #: What is under way is not held any more.
        self._too_long = False

    def _hold(self, piece: bytes) -> bytes:
        """What goes on instead: nothing, or all that there is of what is too long."""
        if self._too_long:
            return piece
        self._held += piece
        self._too_long = len(self._held) > self._max_held
        return self._take() if self._too_long else b""

    def _take(self) -> bytes:
        taken = bytes(self._held)
        self._held.clear()
        return taken


class DocumentNames(_Held):
    """An answer that is one JSON object. It goes on when it is whole."""

    __slots__ = ()

    def feed(self, piece: bytes) -> bytes:
        return self._hold(piece)

    def end(self) -> bytes:
        return _renamed(self._take(), self._model)


class StreamNames(_Held):
    """An answer of server-sent events, each of which is one line of JSON. A line goes on when it is whole."""

    __slots__ = ()

    def feed(self, piece: bytes) -> bytes:
        # An end of line that is cut between its two bytes makes an empty line more here, and none in the bytes.
        whole = max(piece.rfind(b"\n"), piece.rfind(b"\r")) + 1
        if not whole:
            return self._hold(piece)
        lines = (self._take() + piece[:whole]).splitlines(keepends=True)
        start = int(self._too_long)
        self._too_long = False
        return b"".join([*lines[:start], *map(self._line, lines[start:]), self._hold(piece[whole:])])

    def end(self) -> bytes:
        return self._line(self._take())

    def _line(self, line: bytes) -> bytes:
        return _DATA + _renamed(line[len(_DATA) :], self._model) if line.startswith(_DATA) else line


class _Answer(msgspec.Struct):
    """Where the events that begin an answer have it, Anthropic's and those of OpenAI's Responses API."""

    message: msgspec.Raw = msgspec.Raw(b"")
    response: msgspec.Raw = msgspec.Raw(b"")


_decode = msgspec.json.Decoder(_Answer).decode


def _renamed(text: bytes, model: str) -> bytes:
    """The JSON object with its name of the model, and that of the answer in it, replaced; other text as it is."""
    if b"model" not in text and b"\\u00" not in text:
        return text
    try:
        text = replace_model(text, model)
        found = _decode(text)
        start, end = max(position(text, found.message), position(text, found.response))
        return text[:start] + replace_model(text[start:end], model) + text[end:] if end else text
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, Refusal):
        # Not for this gateway to judge: the client gets the answer of the model server.
        return text
