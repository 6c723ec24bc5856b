"""The connection. Ids such as `6.5.2/3` are those of h2spec's cases, of which all are here that apply to a server of gRPC.

Not here: content-length (8.1.2.6), which no gRPC call has, and priorities (5.3), which RFC 9113 has done away with.
"""

import pytest
from support.envoy_bytes import RECORDED
from support.http2_peer import (
    HEALTH_PATH,
    HELLO,
    REQUEST,
    Call,
    Frame,
    Peer,
    block,
    data,
    fields,
    is_end,
    message,
    opening,
    prefixed,
    silent,
)

from extproc.transport.grpc_status import NOT_GRPC, RESPONSE_HEADERS, Status, trailers
from extproc.transport.http2 import connection as http2
from extproc.transport.http2 import stream
from extproc.transport.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    MAX_31_BITS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PRIORITY_FLAG,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ErrorCode,
    frame,
    rst_stream,
    settings,
    window_update,
)
from extproc.transport.http2.requests import MAX_HEADER_BLOCK, Route
from extproc.transport.http2.stream import MAX_REMEMBERED

ACK_FRAME = Frame(SETTINGS, ACK, 0, b"")
PONG = Frame(PING, ACK, 0, b"12345678")
PING_FRAME = frame(PING, 0, 0, b"12345678")


def goaways(heard: list[Frame]) -> list[tuple[int, int]]:
    """(last stream, code) of each GOAWAY."""
    return [(int.from_bytes(f.payload[:4]), int.from_bytes(f.payload[4:8])) for f in heard if f.kind == GOAWAY]


def resets(heard: list[Frame]) -> list[tuple[int, int]]:
    """(stream, code) of each RST_STREAM."""
    return [(f.stream_id, int.from_bytes(f.payload)) for f in heard if f.kind == RST_STREAM]


def echoed(heard: list[Frame], stream_id: int, payload: bytes) -> bool:
    return data(heard, stream_id) == prefixed(payload)


def assert_alive(peer: Peer, stream_id: int = 101) -> None:
    """A call on a new stream is answered."""
    heard = peer.said(opening(stream_id), message(stream_id, b"alive", END_STREAM))
    assert echoed(heard, stream_id, b"alive")
    assert is_end(heard[-1], stream_id)


# What is ignored or answered

FINE = {
    "3.5/1": [],
    "4.1/1": [frame(0x16, 0, 0, b"x" * 8)],
    "4.1/2": [frame(PING, 0x16, 0, b"12345678")],
    "4.1/3": [frame(PING, 0, 1 << 31, b"12345678")],
    "4.2/1": [opening(1), frame(DATA, 0, 1, prefixed(bytes(2**14 - 5)))],
    "5.5/1": [frame(0x16, 0, 0, b"x"), PING_FRAME],
    "6.5.2/5": [settings({0xFF: 0})],
    "6.7/2": [frame(PING, ACK, 0, b"12345678")],
    "7/2": [opening(1), frame(RST_STREAM, 0, 1, b"\0\0\0\xff")],
    "6.10/1": [
        frame(HEADERS, 0, 1, REQUEST[:1]),
        *[frame(CONTINUATION, 0, 1, REQUEST[n : n + 1]) for n in range(1, 9)],
        frame(CONTINUATION, END_HEADERS, 1, REQUEST[9:]),
    ],
    "PRIORITY on an idle stream": [frame(PRIORITY, 0, 51, bytes(5))],
    "PRIORITY on an open stream": [opening(1), frame(PRIORITY, 0, 1, bytes(5))],
    "PRIORITY on a closed stream": [opening(1, END_STREAM), frame(PRIORITY, 0, 1, bytes(5))],
    "HEADERS with priority": [frame(HEADERS, END_HEADERS | PRIORITY_FLAG, 1, bytes(5) + REQUEST)],
    "HEADERS with padding and priority": [
        frame(HEADERS, END_HEADERS | PADDED | PRIORITY_FLAG, 1, b"\x03" + bytes(5) + REQUEST + b"PPP")
    ],
    "RST_STREAM on a closed stream": [opening(1, END_STREAM), rst_stream(1, ErrorCode.CANCEL)],
    "WINDOW_UPDATE on a closed stream": [opening(1, END_STREAM), window_update(1, 1)],
    "header table, concurrency, header list": [settings({1: 0, 3: 0, 6: 1, 2: 0})],
    "stream numbers may be left out": [opening(1), opening(9)],
}


@pytest.mark.parametrize("said", FINE.values(), ids=FINE.keys())
def test_fine(said: list[bytes]) -> None:
    peer = Peer()
    heard = peer.said(*said)
    assert not goaways(heard)
    assert not resets(heard)
    assert_alive(peer)


# What ends the connection

FAULTS = {
    "4.2/2": ([opening(1), frame(DATA, 0, 1, bytes(stream.MAX_FRAME + 1))], ErrorCode.FRAME_SIZE_ERROR),
    "4.2/3": ([frame(HEADERS, END_HEADERS, 1, bytes(stream.MAX_FRAME + 1))], ErrorCode.FRAME_SIZE_ERROR),
    "4.3/1": ([opening(1, 0, b"\x40")], ErrorCode.COMPRESSION_ERROR),
    "4.3/2": ([frame(HEADERS, 0, 1, REQUEST), frame(PRIORITY, 0, 1, bytes(5))], ErrorCode.PROTOCOL_ERROR),
    "4.3/3": ([frame(HEADERS, 0, 1, REQUEST), opening(3)], ErrorCode.PROTOCOL_ERROR),
    "5.1/1": ([message(1, b"x")], ErrorCode.PROTOCOL_ERROR),
    "5.1/2": ([rst_stream(1, ErrorCode.CANCEL)], ErrorCode.PROTOCOL_ERROR),
    "5.1/3": ([window_update(1, 100)], ErrorCode.PROTOCOL_ERROR),
    "5.1/4": ([frame(CONTINUATION, END_HEADERS, 1, REQUEST)], ErrorCode.PROTOCOL_ERROR),
    "5.1/7": ([opening(1, END_STREAM), frame(CONTINUATION, END_HEADERS, 1, REQUEST)], ErrorCode.PROTOCOL_ERROR),
    # h2spec wants STREAM_CLOSED in /9 and /12, which section 5.1 allows; section 5.1.1 demands this one.
    "5.1/9": ([opening(1), rst_stream(1, ErrorCode.CANCEL), opening(1)], ErrorCode.PROTOCOL_ERROR),
    "5.1/12": ([opening(1, END_STREAM), opening(1)], ErrorCode.PROTOCOL_ERROR),
    "5.1/13": (
        [opening(1), rst_stream(1, ErrorCode.CANCEL), frame(CONTINUATION, END_HEADERS, 1, REQUEST)],
        ErrorCode.PROTOCOL_ERROR,
    ),
    "5.1.1/1": ([opening(2)], ErrorCode.PROTOCOL_ERROR),
    "5.1.1/2": ([opening(5), opening(3)], ErrorCode.PROTOCOL_ERROR),
    "5.4.1/1": ([frame(PING, 0, 3, b"12345678")], ErrorCode.PROTOCOL_ERROR),
    "5.5/2": ([frame(HEADERS, 0, 1, REQUEST), frame(0x16, 0, 0, b"x")], ErrorCode.PROTOCOL_ERROR),
    "6.1/1": ([frame(DATA, 0, 0, b"x")], ErrorCode.PROTOCOL_ERROR),
    "6.1/3": ([opening(1), frame(DATA, PADDED, 1, b"\x09x")], ErrorCode.PROTOCOL_ERROR),
    "6.2/1": ([frame(HEADERS, 0, 1, REQUEST), frame(PRIORITY, 0, 3, bytes(5))], ErrorCode.PROTOCOL_ERROR),
    "6.2/3": ([opening(0)], ErrorCode.PROTOCOL_ERROR),
    "6.2/4": ([frame(HEADERS, END_HEADERS | PADDED, 1, b"\xff" + REQUEST)], ErrorCode.PROTOCOL_ERROR),
    "6.3/1": ([frame(PRIORITY, 0, 0, bytes(5))], ErrorCode.PROTOCOL_ERROR),
    "6.4/1": ([frame(RST_STREAM, 0, 0, bytes(4))], ErrorCode.PROTOCOL_ERROR),
    "6.4/2": ([rst_stream(7, ErrorCode.CANCEL)], ErrorCode.PROTOCOL_ERROR),
    "6.4/3": ([opening(1), frame(RST_STREAM, 0, 1, bytes(3))], ErrorCode.FRAME_SIZE_ERROR),
    "6.5/1": ([frame(SETTINGS, ACK, 0, bytes(6))], ErrorCode.FRAME_SIZE_ERROR),
    "6.5/2": ([frame(SETTINGS, 0, 1, b"")], ErrorCode.PROTOCOL_ERROR),
    "6.5/3": ([frame(SETTINGS, 0, 0, bytes(3))], ErrorCode.FRAME_SIZE_ERROR),
    "6.5.2/1": ([settings({2: 2})], ErrorCode.PROTOCOL_ERROR),
    "6.5.2/2": ([settings({4: 2**31})], ErrorCode.FLOW_CONTROL_ERROR),
    "6.5.2/3": ([settings({5: 2**14 - 1})], ErrorCode.PROTOCOL_ERROR),
    "6.5.2/4": ([settings({5: 2**24})], ErrorCode.PROTOCOL_ERROR),
    "6.7/4": ([frame(PING, 0, 0, bytes(6))], ErrorCode.FRAME_SIZE_ERROR),
    "6.8/1": ([frame(GOAWAY, 0, 1, bytes(8))], ErrorCode.PROTOCOL_ERROR),
    "6.9/1": ([window_update(0, 0)], ErrorCode.PROTOCOL_ERROR),
    "6.9/3": ([frame(WINDOW_UPDATE, 0, 0, bytes(3))], ErrorCode.FRAME_SIZE_ERROR),
    "6.9.1/2": ([window_update(0, MAX_31_BITS), window_update(0, MAX_31_BITS)], ErrorCode.FLOW_CONTROL_ERROR),
    "6.9.2/3": ([opening(1), window_update(1, 2**30), settings({4: MAX_31_BITS})], ErrorCode.FLOW_CONTROL_ERROR),
    "6.10/2": ([frame(HEADERS, 0, 1, REQUEST), message(1, b"x")], ErrorCode.PROTOCOL_ERROR),
    "6.10/3": ([frame(HEADERS, 0, 1, REQUEST), frame(CONTINUATION, END_HEADERS, 0, b"")], ErrorCode.PROTOCOL_ERROR),
    "6.10/4": ([opening(1), frame(CONTINUATION, END_HEADERS, 1, REQUEST)], ErrorCode.PROTOCOL_ERROR),
    "6.10/5": (
        [
            frame(HEADERS, 0, 1, REQUEST),
            frame(CONTINUATION, END_HEADERS, 1, b""),
            frame(CONTINUATION, END_HEADERS, 1, b""),
        ],
        ErrorCode.PROTOCOL_ERROR,
    ),
    "6.10/6": ([opening(1), message(1, b"x"), frame(CONTINUATION, END_HEADERS, 1, b"")], ErrorCode.PROTOCOL_ERROR),
    "8.2/1": ([frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4) + REQUEST)], ErrorCode.PROTOCOL_ERROR),
    "GOAWAY too short": ([frame(GOAWAY, 0, 0, bytes(7))], ErrorCode.FRAME_SIZE_ERROR),
    "padding without a length": ([opening(1), frame(DATA, PADDED, 1)], ErrorCode.FRAME_SIZE_ERROR),
    "HEADERS without room for the priority": (
        [frame(HEADERS, END_HEADERS | PRIORITY_FLAG, 1, bytes(4))],
        ErrorCode.FRAME_SIZE_ERROR,
    ),
    "a stream of the server's": ([opening(3), rst_stream(2, ErrorCode.CANCEL)], ErrorCode.PROTOCOL_ERROR),
    "trailers that cannot be decoded": ([opening(1), opening(1, END_STREAM, b"\x40")], ErrorCode.COMPRESSION_ERROR),
    "header block too large": ([opening(1, 0, bytes(MAX_HEADER_BLOCK + 1))], ErrorCode.ENHANCE_YOUR_CALM),
    "header block without end": (
        [frame(HEADERS, 0, 1, REQUEST), *[frame(CONTINUATION, 0, 1, bytes(1000))] * 66],
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
}


@pytest.mark.parametrize(("said", "code"), FAULTS.values(), ids=FAULTS.keys())
def test_connection_fault(said: list[bytes], code: ErrorCode) -> None:
    peer = Peer(silent)
    heard = peer.said(*said)
    assert [c for _, c in goaways(heard)] == [code]
    assert heard[-1].kind == GOAWAY
    assert heard[-1].payload[8:].decode() == peer.machine.fault
    assert peer.machine.closed
    assert peer.machine.streams == 0
    assert [call.ends for call in peer.calls] == [1] * len(peer.calls)
    # Nothing more is taken, or said.
    assert peer.said(PING_FRAME) == []
    peer.machine.drain()
    peer.machine.abort()
    assert peer.heard() == []
    peer.machine.lost()
    assert [call.ends for call in peer.calls] == [1] * len(peer.calls)


def test_fault_names_the_last_stream() -> None:  # 5.4.1/2
    peer = Peer()
    heard = peer.said(opening(1), opening(7), frame(PING, 0, 0, b""))
    assert goaways(heard) == [(7, ErrorCode.FRAME_SIZE_ERROR)]


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"INVALID CONNECTION PREFACE\r\n\r\n", id="3.5/2"),
        pytest.param(b"GET / HTTP/1.1\r\n", id="HTTP/1.1, shorter than the preface"),
        pytest.param(PREFACE + PING_FRAME, id="SETTINGS do not come first"),
        pytest.param(PREFACE + frame(SETTINGS, ACK, 0), id="nor does their acknowledgement"),
    ],
)
def test_greeting_of_somebody_else(said: bytes) -> None:
    peer = Peer(greet=False)
    peer.heard()
    assert [code for _, code in goaways(peer.said(said))] == [ErrorCode.PROTOCOL_ERROR]
    assert peer.machine.closed


def test_what_the_server_says_first() -> None:
    peer = Peer(greet=False, max_streams=77)
    ours, window = peer.heard()
    assert (ours.kind, ours.flags, ours.stream_id) == (SETTINGS, 0, 0)
    pairs = {
        int.from_bytes(ours.payload[n : n + 2]): int.from_bytes(ours.payload[n + 2 : n + 6])
        for n in range(0, len(ours.payload), 6)
    }
    assert pairs == {1: 0, 3: 77, 4: stream.WINDOW, 5: stream.MAX_FRAME, 6: MAX_HEADER_BLOCK}
    assert window == Frame(WINDOW_UPDATE, 0, 0, (MAX_31_BITS - 65535).to_bytes(4))
    assert peer.said(HELLO) == [ACK_FRAME]  # 6.5.3/2


# What ends a stream

STREAM_ERRORS = {
    "5.1/5": ([opening(1, END_STREAM), message(1, b"x")], ErrorCode.STREAM_CLOSED),
    "5.1/6": ([opening(1, END_STREAM), opening(1, END_STREAM, b"")], ErrorCode.STREAM_CLOSED),
    "5.1/8": ([opening(1), rst_stream(1, ErrorCode.CANCEL), message(1, b"x")], ErrorCode.STREAM_CLOSED),
    "6.1/2": ([opening(1, END_STREAM), message(1, b"x")], ErrorCode.STREAM_CLOSED),
    "6.3/2": ([opening(1), frame(PRIORITY, 0, 1, bytes(4))], ErrorCode.FRAME_SIZE_ERROR),
    "6.3/2 idle": ([frame(PRIORITY, 0, 1, bytes(4))], ErrorCode.FRAME_SIZE_ERROR),
    "6.9/2": ([opening(1), window_update(1, 0)], ErrorCode.PROTOCOL_ERROR),
    "6.9.1/3": ([opening(1), window_update(1, MAX_31_BITS)], ErrorCode.FLOW_CONTROL_ERROR),
    "8.1/1": ([opening(1), opening(1, 0, b"")], ErrorCode.PROTOCOL_ERROR),
    "8.1.2.1/3": ([opening(1), opening(1, END_STREAM, block([(b":path", b"/")]))], ErrorCode.PROTOCOL_ERROR),
    "8.1.2.3/1": ([opening(1, 0, block(fields(b"")))], ErrorCode.PROTOCOL_ERROR),
}


@pytest.mark.parametrize(("said", "code"), STREAM_ERRORS.values(), ids=STREAM_ERRORS.keys())
def test_stream_error(said: list[bytes], code: ErrorCode) -> None:
    peer = Peer(silent, lingers=True)
    heard = peer.said(*said)
    assert resets(heard) == [(1, code)]
    assert not goaways(heard)
    assert [call.ends for call in peer.calls] == [1] * len(peer.calls)
    assert peer.machine.streams == 0
    assert peer.machine.held == 0
    peer.said(opening(3), message(3, b"alive"))
    assert peer.calls[-1].messages == [b"alive"]


@pytest.mark.parametrize("said", [message(1, b"x"), opening(1, END_STREAM, b""), rst_stream(1, ErrorCode.CANCEL)])
def test_frames_that_were_on_their_way_mean_nothing(said: bytes) -> None:
    peer = Peer()
    assert resets(peer.said(opening(1), window_update(1, 0))) == [(1, ErrorCode.PROTOCOL_ERROR)]
    assert peer.said(said) == []
    assert_alive(peer)


def test_few_streams_are_remembered() -> None:
    peer = Peer(max_streams=0)
    ids = range(1, 2 * MAX_REMEMBERED + 5, 2)
    assert resets(peer.said(*map(opening, ids))) == [(n, ErrorCode.REFUSED_STREAM) for n in ids]
    assert len(peer.machine._link.remembered) == MAX_REMEMBERED
    assert peer.said(message(ids[-1], b"x")) == []
    assert resets(peer.said(message(1, b"x"))) == [(1, ErrorCode.STREAM_CLOSED)]


# Calls


def test_call() -> None:
    peer = Peer()
    heard = peer.said(opening(1), message(1, b"hello"))
    assert [(f.kind, f.flags) for f in heard] == [(HEADERS, END_HEADERS), (DATA, 0)]
    assert echoed(heard, 1, b"hello")
    heard = peer.said(message(1, b"again", END_STREAM))
    assert [(f.kind, f.flags) for f in heard] == [(DATA, 0), (HEADERS, END_HEADERS | END_STREAM)]
    (call,) = peer.calls
    assert (call.route, call.messages, call.half_closes, call.ends) == (Route.PROCESS, [b"hello", b"again"], 1, 1)
    assert call.stream.closed
    call.stream.send(b"late")
    call.stream.finish(Status.INTERNAL)
    call.stream.resume()
    assert peer.heard() == []


def test_call_without_messages() -> None:
    peer = Peer()
    (answer,) = peer.said(opening(1, END_STREAM))
    assert is_end(answer, 1)
    assert answer.payload == RESPONSE_HEADERS + trailers(Status.OK)


@pytest.mark.parametrize("end", [frame(DATA, END_STREAM, 1), opening(1, END_STREAM, b"")], ids=["DATA", "trailers"])
def test_end_of_messages_on_its_own(end: bytes) -> None:
    peer = Peer()
    peer.said(opening(1), message(1, b"x"))
    (answer,) = peer.said(end)
    assert answer.payload == trailers(Status.OK)
    assert peer.calls[0].half_closes == 1


def test_trailers_for_a_stream_that_was_reset_meanwhile_are_kept_back() -> None:
    """Envoy half-closes a call and resets it at once: an answer would wake it up for nothing."""
    peer = Peer()
    peer.said(opening(1), message(1, b"x"), opening(3))
    assert peer.said(frame(DATA, END_STREAM, 1), rst_stream(1, ErrorCode.INTERNAL_ERROR)) == []
    assert (peer.calls[0].half_closes, peer.calls[0].ends) == (1, 1)

    heard = peer.said(message(3, b"y"), frame(DATA, END_STREAM, 3), rst_stream(1, ErrorCode.INTERNAL_ERROR))
    assert [f.kind for f in heard] == [HEADERS, DATA, HEADERS], "what another stream says goes out"
    assert peer.said(rst_stream(3, ErrorCode.INTERNAL_ERROR)) == [], "it was said already"
    assert_alive(peer)


def test_the_first_block_is_sent_whatever_happens_to_its_stream() -> None:
    """It says that there is no header table, which holds for the connection."""
    peer = Peer()
    (only,) = peer.said(opening(1), frame(DATA, END_STREAM, 1), rst_stream(1, ErrorCode.INTERNAL_ERROR))
    assert only.payload == RESPONSE_HEADERS + trailers(Status.OK)
    assert_alive(peer)


def test_health_check_has_its_route() -> None:
    peer = Peer()
    peer.said(opening(1, END_STREAM, block(fields(HEALTH_PATH))))
    assert [call.route for call in peer.calls] == [Route.HEALTH_CHECK]


@pytest.mark.parametrize(
    ("of", "answer"),
    [
        (fields(b"/a.B/C"), RESPONSE_HEADERS + trailers(Status.UNIMPLEMENTED, "no such method")),
        ([*fields()[:5], (b"content-type", b"text/plain")], NOT_GRPC),
    ],
)
def test_what_is_not_served(of: list[tuple[bytes, bytes]], answer: bytes) -> None:
    peer = Peer()
    heard = peer.said(opening(1, 0, block(of)), message(1, b"x"), opening(3, END_STREAM, block(of)))
    assert heard == [
        Frame(HEADERS, END_HEADERS | END_STREAM, 1, answer),
        Frame(RST_STREAM, 0, 1, ErrorCode.NO_ERROR.to_bytes(4)),
        Frame(HEADERS, END_HEADERS | END_STREAM, 3, answer),
    ]
    assert not peer.calls
    assert_alive(peer)


def test_early_end_tells_the_peer_to_stop() -> None:
    peer = Peer(lambda call, _: call.stream.finish(Status.INVALID_ARGUMENT, "no"))
    first, second = peer.said(opening(1), message(1, b"x") * 3)
    assert first == Frame(
        HEADERS, END_HEADERS | END_STREAM, 1, RESPONSE_HEADERS + trailers(Status.INVALID_ARGUMENT, "no")
    )
    assert second == Frame(RST_STREAM, 0, 1, ErrorCode.NO_ERROR.to_bytes(4))
    assert peer.calls[0].messages == [b"x"]
    assert peer.calls[0].ends == 1


# Messages


@pytest.mark.parametrize("flags", [0, PADDED])
@pytest.mark.parametrize("piece", [1, 2, 5, 6, 7, 100])
def test_messages_across_frames(piece: int, flags: int) -> None:
    sent = [b"", b"a", b"", bytes(300), b"bc" * 50]
    whole = b"".join(map(prefixed, sent))
    peer = Peer()
    peer.said(opening(1))
    for start in range(0, len(whole), piece):
        part = whole[start : start + piece]
        peer.said(frame(DATA, flags, 1, b"\x02" + part + b"PP" if flags else part))
    peer.said(frame(DATA, END_STREAM, 1))
    (call,) = peer.calls
    assert (call.messages, call.half_closes) == (sent, 1)
    assert peer.machine.held == 0


def test_message_of_the_largest_size() -> None:
    peer = Peer(silent, max_message=1000)
    peer.said(opening(1), message(1, bytes(1000)))
    assert peer.calls[0].messages == [bytes(1000)]


@pytest.mark.parametrize(
    ("prefix", "status", "text"),
    [
        (b"\0" + (1001).to_bytes(4), Status.RESOURCE_EXHAUSTED, "message larger than 1000 bytes"),
        (b"\1" + bytes(4), Status.UNIMPLEMENTED, "compressed messages are not taken"),
    ],
)
@pytest.mark.parametrize("pieces", [1, 2])
def test_refused_message(prefix: bytes, status: Status, text: str, pieces: int) -> None:
    peer = Peer(max_message=1000)
    payload = prefixed(b"first") + prefix + b"..."
    parts = [payload] if pieces == 1 else [payload[:11], payload[11:]]
    heard = peer.said(opening(1), *[frame(DATA, 0, 1, part) for part in parts])
    assert heard[-2].payload == trailers(status, text)
    assert resets(heard) == [(1, ErrorCode.NO_ERROR)]
    assert (peer.calls[0].messages, peer.calls[0].ends) == ([b"first"], 1)
    assert peer.machine.held == 0
    assert peer.said(frame(DATA, END_STREAM, 1, b"rest")) == []
    assert_alive(peer)


def test_message_that_is_cut_off() -> None:
    peer = Peer()
    heard = peer.said(opening(1), frame(DATA, END_STREAM, 1, prefixed(b"abc")[:-1]))
    assert heard[-1].payload == RESPONSE_HEADERS + trailers(Status.INTERNAL, "the last message is not complete")
    assert (peer.calls[0].messages, peer.calls[0].half_closes, peer.calls[0].ends) == ([], 0, 1)
    assert peer.machine.held == 0


# Pausing


def waits(call: Call, payload: bytes) -> None:
    """Answers, and pauses on each message that says so."""
    if payload == b"wait":
        call.stream.pause()
    else:
        call.stream.send(payload)


def test_paused_stream_keeps_order_and_end() -> None:
    peer = Peer(waits)
    heard = peer.said(opening(1), message(1, b"wait") + message(1, b"a"), message(1, b"b"), message(1, b"wait"))
    heard += peer.said(message(1, b"c"), frame(DATA, END_STREAM, 1))
    assert heard == []
    (call,) = peer.calls
    assert call.messages == [b"wait"]
    assert peer.machine.held > 0
    call.stream.send(b"first")
    call.stream.resume()
    heard = peer.heard()
    assert data(heard, 1) == prefixed(b"first") + prefixed(b"a") + prefixed(b"b")
    assert call.half_closes == 0
    call.stream.resume()
    heard = peer.heard()
    assert echoed(heard[:-1], 1, b"c")
    assert is_end(heard[-1], 1)
    assert (call.half_closes, call.ends, peer.machine.held) == (1, 1, 0)


def test_paused_in_the_middle_of_a_frame() -> None:
    peer = Peer(waits)
    peer.said(opening(1), frame(DATA, END_STREAM, 1, prefixed(b"wait") + prefixed(b"a")))
    (call,) = peer.calls
    call.stream.resume()
    assert (call.messages, call.half_closes) == ([b"wait", b"a"], 1)


def test_half_a_message_waits_with_the_whole_ones() -> None:
    peer = Peer(waits)
    peer.said(opening(1), message(1, b"wait"), frame(DATA, 0, 1, prefixed(b"a") + prefixed(b"b")[:3]))
    (call,) = peer.calls
    call.stream.resume()
    assert call.messages == [b"wait", b"a"]
    peer.said(frame(DATA, 0, 1, prefixed(b"b")[3:]))
    assert call.messages == [b"wait", b"a", b"b"]


def test_paused_stream_ends_on_resume() -> None:
    peer = Peer(waits)
    peer.said(opening(1), message(1, b"wait"), frame(DATA, 0, 1, b"\1"), frame(DATA, 0, 1, bytes(4)))
    peer.calls[0].stream.resume()
    assert peer.heard()[0].payload == RESPONSE_HEADERS + trailers(
        Status.UNIMPLEMENTED, "compressed messages are not taken"
    )
    assert peer.machine.held == 0


def test_paused_stream_is_reset_by_the_peer() -> None:
    peer = Peer(waits)
    peer.said(opening(1), message(1, b"wait"), message(1, b"a"), rst_stream(1, ErrorCode.CANCEL))
    assert (peer.calls[0].messages, peer.calls[0].ends, peer.machine.held) == ([b"wait"], 1, 0)
    peer.calls[0].stream.resume()


def test_too_much_waits_on_one_stream() -> None:
    peer = Peer(waits, max_message=1000)
    peer.machine._link.max_frame = 1000
    peer.said(opening(1), message(1, b"wait"))
    heard = []
    for _ in range(20):
        heard += peer.said(message(1, bytes(200)))
        assert peer.machine.held <= 2005
    assert heard[0].payload == RESPONSE_HEADERS + trailers(Status.RESOURCE_EXHAUSTED, "too much waits to be handled")
    assert peer.machine.held == 0
    assert_alive(peer)


def test_too_much_waits_on_the_connection() -> None:
    peer = Peer(silent)
    peer.machine._link.max_held = 1000
    heard = peer.said(*[opening(n) + frame(DATA, 0, n, prefixed(bytes(1000))[:400]) for n in (1, 3, 5)])
    assert is_end(heard[0], 5)
    assert [call.ends for call in peer.calls] == [0, 0, 1]
    assert peer.machine.held == 800


# To the peer


def test_reply_larger_than_a_frame() -> None:
    peer = Peer()
    payload = bytes(range(256)) * 200
    heard = peer.said(opening(1), message(1, payload))
    assert echoed(heard, 1, payload)
    assert [len(f.payload) for f in heard if f.kind == DATA] == [16384, 16384, 16384, 51205 - 3 * 16384]
    peer = Peer()
    heard = peer.said(settings({5: 60_000}), opening(1), message(1, payload))
    assert [len(f.payload) for f in heard if f.kind == DATA] == [51205]


def test_reply_larger_than_the_windows() -> None:  # and 6.9.1/1
    peer = Peer()
    payload = bytes(range(256)) * 800
    heard = peer.said(opening(1), message(1, payload, END_STREAM))
    assert len(data(heard, 1)) == 65535
    assert peer.machine.held > 0
    assert (peer.calls[0].ends, peer.calls[0].half_closes) == (0, 1)
    assert peer.said(window_update(0, 1 << 20)) == []
    heard += peer.said(window_update(1, 1))
    assert len(data(heard, 1)) == 65536
    heard += peer.said(window_update(1, 1 << 20))
    assert echoed(heard, 1, payload)
    assert is_end(heard[-1], 1)
    assert [is_end(f, 1) for f in heard].count(True) == 1
    assert (peer.calls[0].ends, peer.machine.held) == (1, 0)


def test_initial_window_of_the_peer() -> None:  # 6.9.2/1, 6.9.2/2, 6.5.3/1
    peer = Peer()
    peer.said(opening(1), settings({4: 3}))
    heard = peer.said(message(1, b"abcdef"))
    assert data(heard, 1) == prefixed(b"abcdef")[:3]
    heard += peer.said(settings({4: 1}))  # now minus 2
    assert heard[-1] == ACK_FRAME
    heard += peer.said(window_update(1, 2))
    assert data(heard, 1) == prefixed(b"abcdef")[:3]
    heard += peer.said(settings({4: 2}))
    assert data(heard, 1) == prefixed(b"abcdef")[:4]
    peer.machine.receive(frame(SETTINGS, 0, 0, b"".join([b"\0\4" + n.to_bytes(4) for n in (0, 100)])))
    heard += peer.heard()
    assert echoed(heard, 1, b"abcdef")
    # Streams that are opened later begin with it.
    assert echoed(peer.said(opening(3), message(3, bytes(95))), 3, bytes(95))
    assert len(data(peer.said(opening(5), message(5, bytes(96))), 5)) == 100


def test_streams_take_turns() -> None:
    peer = Peer()
    heard = peer.said(settings({4: MAX_31_BITS}), *[opening(n) + message(n, bytes(100_000)) for n in (1, 3, 5)])
    assert [f.stream_id for f in heard if f.kind == DATA] == [1] * 4  # the connection's first window
    heard = peer.said(window_update(0, 6 * 16384))
    assert [f.stream_id for f in heard if f.kind == DATA] == [1, 3, 5, 1, 3, 5]
    peer.said(window_update(0, MAX_31_BITS))
    assert peer.machine.held == 0


def test_replies_keep_their_order_behind_a_queue() -> None:
    peer = Peer()
    heard = peer.said(settings({4: 8}), opening(1), message(1, b"first"), message(1, b""), message(1, b"third"))
    heard += peer.said(window_update(1, 100))
    assert data(heard, 1) == prefixed(b"first") + prefixed(b"") + prefixed(b"third")


def test_peer_that_takes_nothing_of_one_stream() -> None:
    peer = Peer(max_message=1600)
    heard = peer.said(settings({4: 0}), opening(1), message(1, bytes(800)), message(1, bytes(800)))
    assert not resets(heard)
    assert peer.machine.held == 1610
    heard = peer.said(message(1, bytes(100)))
    assert resets(heard) == [(1, ErrorCode.ENHANCE_YOUR_CALM)]
    assert (peer.calls[0].ends, peer.machine.held) == (1, 0)


@pytest.mark.parametrize("cut", [1, 2000])
def test_stream_that_a_reply_has_ended_gets_no_more_messages(cut: int) -> None:
    peer = Peer(max_message=1600)
    sent = prefixed(bytes(800)) * 3 + prefixed(b"never") * 2
    peer.said(settings({4: 0}), opening(1), frame(DATA, 0, 1, sent[:cut]))
    assert resets(peer.said(frame(DATA, END_STREAM, 1, sent[cut:]))) == [(1, ErrorCode.ENHANCE_YOUR_CALM)]
    (call,) = peer.calls
    assert (call.messages, call.half_closes, call.ends) == ([bytes(800)] * 3, 0, 1)
    assert peer.machine.held == 0


def test_peer_that_takes_nothing_at_all() -> None:
    peer = Peer()
    peer.machine._link.max_held = 1000
    heard = peer.said(settings({4: 0}), *[opening(n) + message(n, bytes(300)) for n in (1, 3, 5, 7)])
    assert resets(heard) == [(7, ErrorCode.ENHANCE_YOUR_CALM)]
    assert peer.machine.held == 915


def test_call_that_is_answered_ignores_the_rest_of_the_request() -> None:
    def answers_once(call: Call, payload: bytes) -> None:
        call.stream.send(payload)
        call.stream.finish(Status.OK)

    peer = Peer(answers_once)
    heard = peer.said(settings({4: 0}), opening(1), message(1, b"x"), message(1, b"y"))
    assert peer.machine.held == 6
    call = peer.calls[0]
    call.stream.finish(Status.INTERNAL)
    call.stream.send(b"late")
    call.stream.resume()
    peer.said(message(1, b"z", END_STREAM))
    heard = peer.said(window_update(1, 100))
    assert echoed(heard, 1, b"x")
    assert heard[-1].payload == trailers(Status.OK)
    assert (call.messages, call.half_closes, call.ends, peer.machine.held) == ([b"x"], 0, 1, 0)


def test_windows_are_topped_up() -> None:
    peer = Peer(silent)
    peer.machine._link.top_up = peer.machine._link.read_on = 1000
    peer.said(opening(1), opening(3))
    heard = peer.said(message(1, bytes(395)), message(3, bytes(395)), frame(DATA, PADDED, 1, b"\xff" + bytes(255)))
    assert heard == [Frame(WINDOW_UPDATE, 0, 0, (1056).to_bytes(4))]
    heard = peer.said(frame(DATA, 0, 1, bytes(400)))
    assert heard == [Frame(WINDOW_UPDATE, 0, 1, (1056).to_bytes(4))]


def test_window_that_is_not_kept_to() -> None:  # 6.9.1/2
    peer = Peer(lambda call, _: call.stream.pause())
    peer.said(opening(1), message(1, b"x"))
    held = bytes(stream.MAX_FRAME // 2)
    assert peer.said(frame(DATA, 0, 1, held)) == []
    heard = peer.said(frame(DATA, 0, 1, held))
    assert heard == [Frame(RST_STREAM, 0, 1, ErrorCode.FLOW_CONTROL_ERROR.to_bytes(4))]
    assert peer.machine.held == 0


def test_window_of_a_stream_that_is_not_read_from() -> None:
    peer = Peer(lambda call, payload: call.stream.pause() if payload == b"x" else None)
    peer.said(opening(1), message(1, b"x"))
    assert peer.said(frame(DATA, 0, 1, bytes(stream.READ_ON))) == []
    peer.calls[0].stream.resume()
    assert [(f.kind, f.stream_id) for f in peer.heard()] == [(WINDOW_UPDATE, 1)]


def test_connections_share_what_may_be_held() -> None:
    holdings = stream.Holdings(1 << 20)
    holdings.limit = 100_000
    peers = []
    for _ in range(2):
        peer = Peer(silent, max_message=1 << 20, holdings=holdings)
        peer.said(opening(1))
        peers.append(peer)
    one, other = peers
    assert one.said(frame(DATA, 0, 1, prefixed(bytes(90_000))[:80_000])) == []
    (refused, _) = other.said(frame(DATA, 0, 1, prefixed(bytes(90_000))[:80_000]))
    assert refused.kind == HEADERS
    # A frame that is not complete counts as well.
    other.said(opening(3))
    (goaway,) = other.said(frame(DATA, 0, 3, bytes(50_000))[:40_000])
    assert goaway.kind == GOAWAY
    one.said(frame(DATA, 0, 1, bytes(15_000))[:10_000])
    assert holdings.total == 90_000
    one.machine.lost()
    assert holdings.total == 0


def test_peer_is_asked_whether_it_is_there() -> None:
    peer = Peer()
    peer.machine.ping()
    (ping,) = peer.heard()
    assert (ping.kind, ping.flags) == (PING, 0)
    assert peer.said(frame(PING, ACK, 0, ping.payload)) == []
    assert not peer.machine.closed


def test_streams_without_a_message_are_ended() -> None:
    peer = Peer(silent)
    peer.said(opening(1), opening(3), message(3, b"x"), opening(5), frame(DATA, 0, 5, b"\0"), opening(7))
    peer.machine.end_silent(5)
    ended = [f.stream_id for f in peer.heard() if f.kind == HEADERS]
    assert ended == [1, 5]
    assert [call.ends for call in peer.calls] == [1, 0, 1, 0]


# The end


def test_drain() -> None:
    peer = Peer()
    peer.said(opening(1), opening(5))
    peer.machine.drain()
    peer.machine.drain()
    heard = peer.heard()
    assert goaways(heard) == [(MAX_31_BITS, ErrorCode.NO_ERROR)]
    assert heard[-1] == Frame(PING, 0, 0, http2.LEAVING)
    # What was on its way is served.
    heard = peer.said(opening(7), message(7, b"x", END_STREAM), frame(PING, ACK, 0, b"12345678"))
    assert echoed(heard, 7, b"x")
    assert not goaways(heard)
    # What comes although the peer knows is not.
    knows = frame(PING, ACK, 0, http2.LEAVING)
    heard = peer.said(knows, knows, opening(9), message(9, b"x"), message(1, b"y", END_STREAM), PING_FRAME)
    assert goaways(heard) == [(7, ErrorCode.NO_ERROR)]
    assert resets(heard) == [(9, ErrorCode.REFUSED_STREAM)]
    assert echoed(heard, 1, b"y")
    assert heard[-1] == PONG
    assert not peer.machine.closed
    # What comes after the last stream has ended is not looked at, even in the same piece.
    assert peer.said(rst_stream(5, ErrorCode.CANCEL), PING_FRAME) == []
    assert peer.machine.closed
    assert peer.machine.fault == ""


def test_nobody_asked_for_that_ping() -> None:
    peer = Peer()
    assert peer.said(frame(PING, ACK, 0, http2.LEAVING)) == []
    assert_alive(peer)


def test_fault_while_draining_does_not_raise_the_last_stream() -> None:  # section 6.8
    peer = Peer()
    peer.machine.drain()
    peer.said(opening(1), frame(PING, ACK, 0, http2.LEAVING))
    assert goaways(peer.said(opening(3), window_update(0, 0))) == [(1, ErrorCode.PROTOCOL_ERROR)]


def test_drain_without_streams_and_after_the_end() -> None:
    peer = Peer()
    peer.machine.drain()
    assert not peer.machine.closed
    assert goaways(peer.said(frame(PING, ACK, 0, http2.LEAVING))) == [
        (MAX_31_BITS, ErrorCode.NO_ERROR),
        (0, ErrorCode.NO_ERROR),
    ]
    assert peer.machine.closed
    peer.machine.drain()
    peer.machine.abort()
    assert peer.heard() == []


def test_goaway_of_the_peer() -> None:  # and 7/1
    peer = Peer()
    heard = peer.said(opening(1), frame(GOAWAY, 0, 0, bytes(7) + b"\xff" + b"bye"), message(1, b"x"))
    assert goaways(heard) == [(1, ErrorCode.NO_ERROR)]
    assert echoed(heard, 1, b"x")
    assert not peer.machine.closed
    peer.said(frame(DATA, END_STREAM, 1))
    assert peer.machine.closed


@pytest.mark.parametrize("drained", [True, False])
def test_abort(drained: bool) -> None:
    peer = Peer(silent)
    peer.said(opening(1), opening(3))
    if drained:
        peer.machine.drain()
        peer.said(frame(PING, ACK, 0, http2.LEAVING))
    peer.machine.abort()
    heard = peer.heard()
    assert goaways(heard) == ([] if drained else [(3, ErrorCode.NO_ERROR)])
    assert resets(heard) == [(1, ErrorCode.CANCEL), (3, ErrorCode.CANCEL)]
    assert peer.machine.closed
    assert [call.ends for call in peer.calls] == [1, 1]


def test_lost() -> None:
    peer = Peer(waits)
    peer.said(settings({4: 0}), opening(1), opening(3), message(1, b"wait"), message(1, b"x"), message(3, b"x"))
    peer.machine.lost()
    assert [call.ends for call in peer.calls] == [1, 1]
    assert (peer.machine.streams, peer.machine.held, peer.machine.closed) == (0, 0, True)
    peer.machine.lost()
    assert [call.ends for call in peer.calls] == [1, 1]


def test_limit_of_streams() -> None:  # 5.1.2/1
    peer = Peer(silent, max_streams=2)
    assert resets(peer.said(opening(1), opening(3), opening(5))) == [(5, ErrorCode.REFUSED_STREAM)]
    assert not resets(peer.said(rst_stream(1, ErrorCode.CANCEL), opening(7)))


# Bytes


def test_recorded_envoy() -> None:
    peer = Peer(silent, greet=False)
    peer.heard()
    heard = peer.said(RECORDED)
    assert heard == [ACK_FRAME]
    assert [(len(call.messages), call.half_closes, call.ends) for call in peer.calls] == [(2, 0, 1)] * 3
    assert peer.machine._decoder._known  # the later streams' headers were not decoded
    assert peer.machine.held == 0


def test_byte_by_byte() -> None:
    whole, single = Peer(greet=False), Peer(greet=False)
    sent = RECORDED + opening(101, 0, b"\x20" + REQUEST) + message(101, bytes(70_000), END_STREAM)
    heard = whole.said(sent)
    assert echoed(heard, 101, bytes(70_000))
    found = []
    for n in range(len(sent)):
        found += single.said(sent[n : n + 1])
    assert found == heard
    assert single.calls[-1].messages == [bytes(70_000)]


def test_large_body_in_small_pieces_takes_linear_time() -> None:
    """Each byte is moved a few times at most: counted, not timed."""
    peer = Peer(silent, max_message=4 << 20)
    payload = prefixed(bytes(4 << 20))
    peer.said(opening(1))
    sent = b"".join([frame(DATA, 0, 1, payload[n : n + 16384]) for n in range(0, len(payload), 16384)])
    for n in range(0, len(sent), 5000):
        peer.machine.receive(sent[n : n + 5000])
        assert len(peer.machine._partial) <= 16384 + 9
    assert peer.calls[0].messages == [bytes(4 << 20)]


@pytest.mark.parametrize("rest", [b"\x00", frame(PING, 0, 0, b"12345678")[:8]])
def test_a_frame_begun_after_the_peers_last_is_not_kept(rest: bytes) -> None:
    peer = Peer()
    peer.said(frame(GOAWAY, 0, 0, bytes(8)) + rest)
    assert peer.machine.closed
    assert (peer.machine.held, bytes(peer.machine._partial)) == (0, b"")
