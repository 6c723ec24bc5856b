import pytest

from extproc.transport.http2 import frames
from extproc.transport.http2.frames import ConnectionFault, ErrorCode


def test_frame_with_a_length_of_three_bytes() -> None:
    payload = bytes(0x012345)
    assert frames.frame(frames.DATA, 1, 0x7FFFFFFF, payload) == b"\x01\x23\x45\x00\x01\x7f\xff\xff\xff" + payload


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (frames.settings({3: 100, 5: 16384}), "00000c040000000000" + "000300000064" + "000500004000"),
        (frames.window_update(3, 7), "000004080000000003" + "00000007"),
        (frames.rst_stream(5, ErrorCode.CANCEL), "000004030000000005" + "00000008"),
        (frames.goaway(9, ErrorCode.NO_ERROR), "000008070000000000" + "00000009" + "00000000"),
        (frames.goaway(9, ErrorCode.PROTOCOL_ERROR, "x"), "000009070000000000" + "00000009" + "00000001" + "78"),
    ],
)
def test_frames_of_each_kind(made: bytes, expected: str) -> None:
    assert made.hex() == expected


def test_unpadded_gives_the_bounds() -> None:
    assert frames.unpadded(b"..\x02abcPP", 2, 8) == (3, 6)


def test_a_frame_of_padding_alone() -> None:
    assert frames.unpadded(b"\x03PPP", 0, 4) == (1, 1)


@pytest.mark.parametrize(
    ("payload", "code"), [(b"", ErrorCode.FRAME_SIZE_ERROR), (b"\x04PPP", ErrorCode.PROTOCOL_ERROR)]
)
def test_more_padding_than_frame(payload: bytes, code: ErrorCode) -> None:
    with pytest.raises(ConnectionFault) as caught:
        frames.unpadded(payload, 0, len(payload))
    assert caught.value.code == code
