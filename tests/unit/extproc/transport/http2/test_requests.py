import pytest
from hpack import Encoder
from support.http2_peer import HEALTH_PATH, Fields, block, fields

from extproc.transport.http2.requests import (
    MAX_KNOWN,
    MAX_KNOWN_BLOCK,
    CompressionError,
    MalformedRequest,
    RequestDecoder,
    Route,
)


def with_field(name: bytes, value: bytes) -> Fields:
    """The fields of a request, one replaced or added."""
    rest = [(n, v) for n, v in fields() if n != name]
    return [(name, value), *rest] if name.startswith(b":") else [*rest, (name, value)]


def without(name: bytes) -> Fields:
    return [(n, v) for n, v in fields() if n != name]


def stateless() -> RequestDecoder:
    """A decoder whose peer has said that it uses no table."""
    decoder = RequestDecoder()
    decoder.table_size_acknowledged()
    decoder.route(b"\x20" + block(fields()))
    return decoder


@pytest.mark.parametrize(
    ("of", "route"),
    [
        (fields(), Route.PROCESS),
        (fields(HEALTH_PATH), Route.HEALTH_CHECK),
        (fields(b"/grpc.health.v1.Health/Watch"), Route.HEALTH_WATCH),
        (fields(b"/grpc.health.v1.Health/List"), Route.UNKNOWN),
        (fields(b"*"), Route.UNKNOWN),
        (with_field(b"content-type", b"application/grpc+proto"), Route.PROCESS),
        (with_field(b"content-type", b"application/grpc;charset=x"), Route.PROCESS),
        (with_field(b"content-type", b"application/grpc-web"), Route.NOT_GRPC),
        (with_field(b"content-type", b"application/json"), Route.NOT_GRPC),
        (without(b"content-type"), Route.NOT_GRPC),
        (with_field(b":method", b"GET"), Route.NOT_GRPC),
        (without(b":authority"), Route.PROCESS),
        (without(b"te"), Route.PROCESS),
    ],
)
def test_route(of: Fields, route: Route) -> None:
    decoder = stateless()
    assert decoder.route(block(of)) is route
    assert decoder.route(block(of)) is route  # known by now
    assert RequestDecoder().route(block(of)) is route


@pytest.mark.parametrize("huffman", [False, True])
def test_tables_and_huffman_before_the_peer_knows(huffman: bool) -> None:
    encoder, decoder = Encoder(), RequestDecoder()
    seen = set()
    for path, route in [(fields()[2][1], Route.PROCESS), (HEALTH_PATH, Route.HEALTH_CHECK)] * 2:
        of = encoder.encode(fields(path), huffman=huffman)
        seen.add(of)
        assert decoder.route(of) is route
    assert len(seen) >= 3  # the encoder has used its table: equal headers, other blocks


def test_equal_blocks_may_mean_other_things_while_there_is_a_table() -> None:
    encoder, decoder = Encoder(), RequestDecoder()
    decoder.route(encoder.encode(fields()))
    short = encoder.encode(fields())
    assert decoder.route(short) is Route.PROCESS
    # Two more entries push what the indexes of `short` meant two places on.
    decoder.route(encoder.encode([*fields(), (b"x-a", b"1"), (b"x-b", b"2")]))
    with pytest.raises(MalformedRequest):
        decoder.route(short)


def test_table_that_is_used_after_it_was_forbidden() -> None:
    decoder = RequestDecoder()
    decoder.route(block(fields()))
    decoder.table_size_acknowledged()
    with pytest.raises(CompressionError):
        decoder.route(block(fields()))


def test_few_blocks_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = stateless()
    for number in range(3 * MAX_KNOWN):
        assert decoder.route(block([*fields(), (b"traceparent", b"%d" % number)])) is Route.PROCESS
        assert len(decoder._known) <= MAX_KNOWN
    large = block([*fields(), *[(b"x-large", b"x" * 100)] * (MAX_KNOWN_BLOCK // 100)])
    assert decoder.route(large) is Route.PROCESS
    assert large not in decoder._known


@pytest.mark.parametrize(
    "of",
    [
        pytest.param(with_field(b"X-Upper", b"1"), id="8.1.2/1"),
        pytest.param(with_field(b":unknown", b"1"), id="8.1.2.1/1"),
        pytest.param(with_field(b":status", b"200"), id="8.1.2.1/2"),
        pytest.param([*without(b":path"), fields()[2]], id="8.1.2.1/4"),
        pytest.param(with_field(b"connection", b"keep-alive"), id="8.1.2.2/1"),
        pytest.param(with_field(b"te", b"trailers, deflate"), id="8.1.2.2/2"),
        pytest.param(with_field(b":path", b""), id="8.1.2.3/1"),
        pytest.param(without(b":method"), id="8.1.2.3/2"),
        pytest.param(without(b":scheme"), id="8.1.2.3/3"),
        pytest.param(without(b":path"), id="8.1.2.3/4"),
        pytest.param([fields()[0], *fields()], id="8.1.2.3/5"),
        pytest.param([fields()[1], *fields()], id="8.1.2.3/6"),
        pytest.param([fields()[2], *fields()], id="8.1.2.3/7"),
        pytest.param(with_field(b"", b"1"), id="empty name"),
        pytest.param(with_field(b"a b", b"1"), id="space in a name"),
        pytest.param(with_field(b"a:b", b"1"), id="colon in a name"),
        pytest.param(with_field(b"x", b"a\nb"), id="line feed in a value"),
        pytest.param(with_field(b"x", b"a\0b"), id="zero in a value"),
        pytest.param([], id="nothing"),
    ],
)
def test_malformed_request(of: Fields) -> None:
    decoder = stateless()
    for _ in range(2):  # not kept as a known one
        with pytest.raises(MalformedRequest):
            decoder.route(block(of))
    assert decoder.route(block(fields())) is Route.PROCESS


@pytest.mark.parametrize(
    "of",
    [
        pytest.param(b"\x40", id="4.3/1"),
        pytest.param(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff", id="integer without end"),
        pytest.param(b"\xc6", id="hpack/2.3.3/1"),
        pytest.param(b"\x7f\x07\x01x", id="hpack/2.3.3/2"),
        pytest.param(block(fields()) + b"\x20", id="hpack/4.2/1"),
        pytest.param(block(fields()) + b"\x00\x01x\x82\x1f\xff\xff", id="hpack/5.2/1"),
        pytest.param(block(fields()) + b"\x00\x01x\x81\x18", id="hpack/5.2/2"),
        pytest.param(block(fields()) + b"\x00\x01x\x84\xff\xff\xff\xff", id="hpack/5.2/3"),
        pytest.param(b"\x80", id="hpack/6.1/1"),
        pytest.param(b"\x3f\xe2\x1f" + block(fields()), id="hpack/6.3/1"),
        pytest.param(block([(b"x" * 120, b"x" * 120)] * 300), id="larger than told"),
    ],
)
def test_block_that_cannot_be_decoded(of: bytes) -> None:
    with pytest.raises(CompressionError):
        RequestDecoder().route(of)
    with pytest.raises(CompressionError):
        stateless().route(of)


def test_trailers() -> None:
    decoder = stateless()
    decoder.trailers(block([(b"x", b"1")]))
    with pytest.raises(MalformedRequest):  # 8.1.2.1/3
        decoder.trailers(block([(b":method", b"POST")]))


def test_skipped_blocks_still_count_for_the_table() -> None:
    encoder, decoder = Encoder(), RequestDecoder()
    decoder.skip(encoder.encode(fields()))
    assert decoder.route(encoder.encode(fields())) is Route.PROCESS
    stateless().skip(b"\x80 not even looked at")
