"""Structured logs: one JSON object (or one line of text) a record, `extra` fields included."""

import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

#: What a LogRecord has of itself; the rest was given with `extra`.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "logger", "message", …extra}`."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields.update({key: value for key, value in vars(record).items() if key not in _OWN})
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(fields, enc_hook=str).decode()


class TextFormatter(logging.Formatter):
    """For people at a terminal. What clients and pods sent cannot end a line, nor move the cursor."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        extra = [f"{key}={value}" for key, value in vars(record).items() if key not in _OWN]
        return _printable(" ".join([super().formatMessage(record), *extra]))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's own name
        return "\n".join([f"    {_printable(line)}" for line in super().formatException(ei).split("\n")])


def _printable(text: str) -> str:
    """`text` with an escape for each character that is not to be seen: controls, separators of lines, directions."""
    if text.isprintable():
        return text
    return "".join(
        [one if one.isprintable() else one.encode("unicode_escape", "surrogatepass").decode() for one in text]
    )


def set_up(level: str, style: Literal["json", "text"]) -> None:
    """Sends all logs to stderr. Levels are logging's names in lower case."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # One line a connection and one a scrape would drown everything else.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
