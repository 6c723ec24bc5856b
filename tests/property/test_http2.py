"""The HTTP/2 server against hyper-h2 as its client, against other cuts of the same bytes, and against spoilt bytes."""

import re
from random import Random

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.envoy_bytes import RECORDED
from support.http2_mutations import mutated, run, split
from support.http2_peer import Frame, Peer, echo, fields, parse, prefixed

from extproc.transport.http2.frames import END_STREAM, GOAWAY, HEADERS

FIELDS = [(name.decode(), value.decode()) for name, value in fields()]
PARTS = split(RECORDED)
SIZES = st.sampled_from([0, 1, 5, 100, 16379, 16380, 40_000, 70_000]) | st.integers(0, 3000)


class Client:
    """hyper-h2 as a gRPC client. It raises if the server says what it may not."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data
        self.peer = Peer(echo, greet=False)
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))
        self._h2.initiate_connection()
        self.sent: dict[int, bytes] = {}
        self.got: dict[int, bytes] = {}
        self.half_closed: set[int] = set()
        self.reset: set[int] = set()
        self.over: set[int] = set()
        self.status: dict[int, bytes] = {}
        self.pongs = 0
        self._unread: list[h2.events.DataReceived] = []

    def exchange(self) -> bool:
        """Bytes in both directions, cut anywhere. False: there were none."""
        out = self._h2.data_to_send()
        cut = self._data.draw(st.integers(1, max(1, len(out))), label="cut")
        self.peer.machine.receive(out[:cut])
        back = self.peer.machine.data_to_send()
        if cut < len(out):
            self.peer.machine.receive(out[cut:])
            back += self.peer.machine.data_to_send()
        # Frame by frame: h2 takes over a frame size that was acknowledged only with the next bytes that it is given.
        at = 0
        while at < len(back):
            end = at + 9 + int.from_bytes(back[at : at + 3])
            for event in self._h2.receive_data(back[at:end]):
                self._on(event)
            at = end
        return bool(out or back)

    def _on(self, event: h2.events.Event) -> None:
        assert not isinstance(event, h2.events.ConnectionTerminated | h2.events.StreamReset)
        if isinstance(event, h2.events.DataReceived):
            self.got[event.stream_id] += event.data
            self._unread.append(event)
        elif isinstance(event, h2.events.ResponseReceived):
            fields_ = dict(event.headers)
            assert fields_[b":status"] == b"200"
            assert fields_[b"content-type"] == b"application/grpc"
            self.status[event.stream_id] = fields_.get(b"grpc-status", b"")
        elif isinstance(event, h2.events.TrailersReceived):
            self.status[event.stream_id] = dict(event.headers)[b"grpc-status"]
        elif isinstance(event, h2.events.StreamEnded):
            self.over.add(event.stream_id)
        elif isinstance(event, h2.events.PingAckReceived):
            self.pongs += 1

    def read(self) -> None:
        """Gives the windows back."""
        for event in self._unread:
            if event.stream_id not in self.reset | self.over:
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            else:
                self._h2.increment_flow_control_window(event.flow_controlled_length)
        self._unread.clear()

    def open(self) -> None:
        stream = self._h2.get_next_available_stream_id()
        self._h2.send_headers(stream, FIELDS)
        self.sent[stream] = self.got[stream] = b""

    def _writable(self) -> list[int]:
        return [n for n in self.sent if n not in self.half_closed | self.reset]

    def message(self, size: int) -> None:
        if not (open_ := self._writable()):
            return
        stream = self._data.draw(st.sampled_from(open_), label="stream")
        payload = prefixed(bytes([size % 251]) * size)
        self.sent[stream] += payload
        padding = self._data.draw(st.sampled_from([None, None, 0, 9]), label="padding")
        while payload:
            room = min(self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size)
            size = min(self._data.draw(st.integers(1, len(payload)), label="piece"), room - 10, len(payload))
            if size <= 0:
                self.exchange()
                continue
            if len(payload) > 5000:
                size = max(size, min(5000, room - 10))
            self._h2.send_data(stream, payload[:size], pad_length=padding)
            payload = payload[size:]

    def end(self) -> None:
        if open_ := self._writable():
            stream = self._data.draw(st.sampled_from(open_), label="stream")
            if self._data.draw(st.booleans(), label="with trailers"):
                self._h2.send_headers(stream, [("x-last", "1")], end_stream=True)
            else:
                self._h2.end_stream(stream)
            self.half_closed.add(stream)

    def cancel(self) -> None:
        if open_ := [n for n in self.sent if n not in self.over | self.reset]:
            stream = self._data.draw(st.sampled_from(open_), label="stream")
            self._h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
            self.reset.add(stream)

    def ping(self) -> None:
        self._h2.ping(b"12345678")

    def change(self, window: int, frame_size: int, table: int) -> None:
        codes = h2.settings.SettingCodes
        self._h2.update_settings(
            {codes.INITIAL_WINDOW_SIZE: window, codes.MAX_FRAME_SIZE: frame_size, codes.HEADER_TABLE_SIZE: table}
        )

    def prioritize(self) -> None:
        if open_ := self._writable():
            self._h2.prioritize(self._data.draw(st.sampled_from(open_), label="stream"), weight=7)


OPERATIONS = st.one_of(
    st.tuples(st.just("open")),
    st.tuples(st.just("message"), SIZES),
    st.tuples(st.just("message"), SIZES),
    st.tuples(st.just("end")),
    st.tuples(st.just("cancel")),
    st.tuples(st.just("ping")),
    st.tuples(st.just("prioritize")),
    st.tuples(st.just("exchange")),
    st.tuples(st.just("read")),
    st.tuples(
        st.just("change"),
        st.sampled_from([0, 1, 100, 65535, 1 << 20]),
        st.sampled_from([16384, 20_000, 1 << 20]),
        st.sampled_from([0, 4096]),
    ),
)


@settings(max_examples=300)
@given(data=st.data(), operations=st.lists(OPERATIONS, min_size=3, max_size=25))
def test_whatever_h2_says_is_handled_and_h2_takes_what_is_answered(
    data: st.DataObject, operations: list[tuple[object, ...]]
) -> None:
    client = Client(data)
    client.open()
    pings = 0
    for name, *arguments in operations:
        pings += name == "ping"
        if name == "change":
            client.exchange()  # h2 takes the acknowledgement of any SETTINGS for that of the latest
        getattr(client, str(name))(*arguments)
        if name == "change":
            client.exchange()
    client.exchange()
    client.change(1 << 20, 16384, 4096)
    for stream in client._writable():
        client._h2.end_stream(stream)
        client.half_closed.add(stream)
    client._h2.increment_flow_control_window(1 << 24)
    while client.exchange():
        client.read()
    assert client.pongs == pings
    assert client.over >= client.sent.keys() - client.reset
    for stream, sent in client.sent.items():
        if stream not in client.reset:
            assert client.got[stream] == sent
            assert client.status[stream] == b"0"
        else:
            assert sent.startswith(client.got[stream])
    assert [call.ends for call in client.peer.calls] == [1] * len(client.sent)
    assert client.peer.machine.held == 0


def frames_of_calls_not_reset(sent: bytes, said: bytes) -> list[Frame]:
    """Without the trailers of calls that are reset: a call that ends and is reset in one piece gets none."""
    reset = {int.from_bytes(one) for one in re.findall(rb"\x00\x00\x04\x03.(.{4})", sent, re.DOTALL)}
    ends = HEADERS, END_STREAM
    return [one for one in parse(said) if one.stream_id not in reset or (one.kind, one.flags & END_STREAM) != ends]


@settings(max_examples=200)
@given(seed=st.integers(0, 2**32), data=st.data())
def test_any_cut_equals_no_cut(seed: int, data: st.DataObject) -> None:
    sent = mutated(PARTS, Random(seed))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=30), label="cuts"))
    whole, said = run(sent, [])
    pieces, also_said = run(sent, cuts)
    assert frames_of_calls_not_reset(sent, also_said) == frames_of_calls_not_reset(sent, said)
    assert [call.messages for call in pieces.calls] == [call.messages for call in whole.calls]
    assert pieces.machine.fault == whole.machine.fault


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32))
@example(seed=21247068).via("a call that ends and is reset in one piece")
def test_byte_by_byte_equals_no_cut(seed: int) -> None:
    sent = mutated(PARTS, Random(seed))
    pieces, whole = run(sent, list(range(len(sent))))[1], run(sent, [])[1]
    assert frames_of_calls_not_reset(sent, pieces) == frames_of_calls_not_reset(sent, whole)


@settings(max_examples=1000)
@given(seed=st.integers(0, 2**64))
def test_spoilt_bytes_end_in_a_goaway_or_not_at_all(seed: int) -> None:
    rng = Random(seed)
    sent = mutated(PARTS, rng)
    peer, said = run(sent, sorted(rng.sample(range(len(sent) + 1), min(3, len(sent)))))
    frames = list(parse(said))  # whole frames only
    if peer.machine.fault:
        assert frames[-1].kind == GOAWAY


@settings(max_examples=200)
@given(sent=st.binary(max_size=200), greeted=st.booleans())
def test_garbage(sent: bytes, greeted: bool) -> None:
    run((PARTS[0] + PARTS[1] if greeted else b"") + sent, [])
