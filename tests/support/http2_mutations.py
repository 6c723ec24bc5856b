"""Bytes of a client, spoilt at random: what a fuzzer feeds an `Http2Connection` with."""

from random import Random

from support.http2_peer import HELLO, REQUEST, Call, Peer, message, opening

from extproc.transport.grpc_status import Status
from extproc.transport.http2.frames import (
    CONTINUATION,
    END_STREAM,
    GOAWAY,
    HEAD_SIZE,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    SETTINGS,
    ErrorCode,
    frame,
    rst_stream,
    settings,
    window_update,
)

#: Frames that no recording has, to be mixed in.
SPICE = (
    opening(13, END_STREAM),
    message(7, b"x" * 40),
    *[message(7, bytes((mood,))) for mood in range(8)],
    message(9, b"y" * 900),
    frame(0, 0, 9, b"\0\0\0\7\xd0" + bytes(900)),
    frame(HEADERS, END_STREAM | 4, 7, b""),
    message(7, b"", END_STREAM),
    frame(0, PADDED, 7, b"\x03" + b"x" * 20),
    frame(0, 0, 7, b"\0\0\0\0"),
    frame(HEADERS, 0, 11, REQUEST[:30]),
    frame(CONTINUATION, 4, 11, REQUEST[30:]),
    settings({4: 0}),
    settings({4: 1 << 20, 5: 1 << 14}),
    frame(SETTINGS, 1, 0),
    window_update(0, 1),
    window_update(7, 1000),
    rst_stream(7, ErrorCode.CANCEL),
    frame(PING, 0, 0, b"12345678"),
    frame(PRIORITY, 0, 7, bytes(5)),
    frame(GOAWAY, 0, 0, bytes(8)),
    frame(0xEE, 0xFF, 3, b"unknown"),
    frame(0, 0, 1, b"\0\xff\xff\xff\xff"),
    frame(0, 0, 1, b"\1\0\0\0\0"),
)
#: Bytes that are limits of something.
EDGES = (0, 1, 0x7F, 0x80, 0xFF)
#: Limits of the machine that is fuzzed: small, so that they are reached.
MAX_STREAMS = 5
MAX_MESSAGE = 2000
MAX_HELD = 5000


def split(recorded: bytes) -> list[bytes]:
    """The preface and the frames of a client's bytes."""
    parts = [recorded[: len(PREFACE)]]
    at = len(PREFACE)
    while at < len(recorded):
        stop = at + HEAD_SIZE + int.from_bytes(recorded[at : at + 3])
        parts.append(recorded[at:stop])
        at = stop
    return parts


def mutated(parts: list[bytes], rng: Random) -> bytes:
    """The parts and some more; some of all lost, doubled, moved or added; then some bytes changed, lost or added."""
    parts = [*parts, opening(7), opening(9), *rng.choices(SPICE, k=rng.randrange(12))]
    for _ in range(rng.choice((0, 0, 1, 1, 2, 5))):
        at = rng.randrange(len(parts))
        kind = rng.randrange(5)
        if kind == 0:
            del parts[at]
        elif kind == 1:
            parts.insert(at, parts[rng.randrange(len(parts))])
        elif kind == 2:
            other = rng.randrange(len(parts))
            parts[at], parts[other] = parts[other], parts[at]
        else:
            parts.insert(rng.randrange(len(parts) + 1), rng.choice(SPICE))
        if not parts:
            parts.append(HELLO)
    data = bytearray(b"".join(parts))
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2, 8))):
        at = rng.randrange(len(data))
        kind = rng.randrange(5)
        if kind == 0:
            data[at] = rng.randrange(256)
        elif kind == 1:
            data[at] = rng.choice(EDGES)
        elif kind == 2:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 3:
            del data[at : at + rng.randrange(1, 20)]
        else:
            data[at:at] = rng.randbytes(rng.randrange(1, 20))
        if not data:
            break
    return bytes(data)


def moody(call: Call, payload: bytes) -> None:
    """Answers, pauses or ends the call, as the message's bytes say."""
    mood = sum(payload) % 8
    if mood == 0:
        call.stream.pause()
    elif mood == 1:
        call.stream.finish(Status.INTERNAL, "mood")
    elif mood == 2:
        call.stream.send(payload * 3)
        call.stream.finish(Status.OK)
    else:
        call.stream.send(payload)


def run(data: bytes, cuts: list[int]) -> tuple[Peer, bytes]:
    """Feeds `data`, cut at `cuts`, and checks what must hold whatever the bytes. Gives the peer and all that it said."""
    peer = Peer(moody, max_streams=MAX_STREAMS, max_message=MAX_MESSAGE, greet=False)
    machine = peer.machine
    machine._link.max_held = MAX_HELD
    said = machine.data_to_send()
    start = 0
    for stop in [*cuts, len(data)]:
        machine.receive(data[start:stop])
        said += machine.data_to_send()
        start = stop
    assert machine.streams <= MAX_STREAMS
    assert machine.held <= MAX_HELD + len(data)
    assert sum(call.ends for call in peer.calls) == len(peer.calls) - machine.streams
    if machine.fault:
        assert machine.closed
    for call in peer.calls:
        call.stream.resume()
    said += machine.data_to_send()
    machine.lost()
    assert all(call.ends == 1 for call in peer.calls)
    assert machine.streams == 0
    assert machine._link.held == 0
    assert not machine._link.blocked
    return peer, said
