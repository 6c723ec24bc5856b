"""One message from a gateway's process to all others: what was collected in some milliseconds, numbered.

Later versions may append fields, which this one does not look at, and add kinds of events, which it counts and leaves
out. A version whose messages this one would read wrongly has another `FORMAT`.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec

#: Name of the form. Others of another name are not read.
FORMAT: Final = b"1"
#: Bytes of one message. The largest are snapshots: 20 to 40 bytes a request in flight, of which there may be 100,000.
MAX_MESSAGE: Final = 4 << 20
#: Bytes of a gateway's identifier.
HOST_BYTES: Final = 8

_Natural = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
_Name = Annotated[str, msgspec.Meta(max_length=32)]
_Host = Annotated[bytes, msgspec.Meta(min_length=HOST_BYTES, max_length=HOST_BYTES)]

#: A process: the gateway that it belongs to, and its place there.
Origin = tuple[bytes, str]


class Message(msgspec.Struct, array_like=True, frozen=True):
    """As it is sent. Positions are for ever."""

    #: The gateway, drawn when it started.
    host: _Host
    #: Which of the gateway's processes.
    place: _Name
    #: Which run of that process: a later one has a larger number.
    epoch: _Natural
    #: Of this message in the epoch; the first is 0.
    number: _Natural
    #: Fingerprint of the group's secret; does not reveal the secret.
    seal: Annotated[bytes, msgspec.Meta(max_length=16)]
    #: By topic.
    events: dict[str, list[msgspec.Raw]]
    #: Whether the events are all that is in flight: they take the place of what was known.
    whole: bool = False
    #: Whether the process ends with this.
    last: bool = False
    #: Processes whose messages were lost, or not heard from their first on: each is to send a whole one.
    wanted: tuple[tuple[bytes, str], ...] = ()
    #: Whether the process has just come, or lost something: one of the others is to send it the plugins' notes.
    cold: bool = False
    #: The only process that the events are for; without any, they are the last ones for it.
    to: tuple[bytes, str] | None = None

    @property
    def origin(self) -> Origin:
        return self.host, self.place


class _Sent(msgspec.Struct, array_like=True, frozen=True):
    """`Message` with events that are not encoded yet."""

    host: bytes
    place: str
    epoch: int
    number: int
    seal: bytes
    events: dict[str, list[Sequence[Any]]]
    whole: bool
    last: bool
    wanted: tuple[Origin, ...]
    cold: bool
    to: Origin | None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Message)
_events = msgspec.msgpack.Decoder(tuple[Any, ...])


def encode(
    origin: Origin,
    epoch: int,
    number: int,
    seal: bytes,
    events: dict[str, list[Sequence[Any]]],
    *,
    whole: bool = False,
    last: bool = False,
    wanted: tuple[Origin, ...] = (),
    cold: bool = False,
    to: Origin | None = None,
) -> bytes:
    """The bytes of a message.

    Raises:
        OverflowError, TypeError: an event holds what cannot be sent.
    """
    return _encoder.encode(_Sent(*origin, epoch, number, seal, events, whole, last, wanted, cold, to))


def decode(data: bytes) -> Message:
    """Reads a message. Its events are still to be read.

    Raises:
        ValueError: it is none.
    """
    if len(data) > MAX_MESSAGE:
        raise ValueError("a message that is too long")
    return _decoder.decode(data)


def decode_event(raw: msgspec.Raw) -> tuple[Any, ...]:
    """Reads an event, of a kind that may not be known.

    Raises:
        ValueError: it is none.
    """
    return _events.decode(raw)
