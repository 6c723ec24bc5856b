import gzip
import os
import tracemalloc
import zlib
from collections.abc import Callable

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.errors import Refusal
from extproc.parsers.encodings import KNOWN, decoded, encoding_of, zstd


def raw_deflate(text: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(text) + packer.flush()


ENCODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "zlib": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
    "br": ("br", brotli.compress),
    "zstd": ("zstd", zstd.compress),
    "gzip of two members": ("gzip", lambda text: gzip.compress(text[:5]) + gzip.compress(text[5:])),
    "zstd of two frames": ("zstd", lambda text: zstd.compress(text[:5]) + zstd.compress(text[5:])),
}
each = pytest.mark.parametrize(("encoding", "encode"), ENCODERS.values(), ids=ENCODERS)


@each
@given(text=st.binary(max_size=2000))
def test_what_was_encoded_comes_out(encoding: str, encode: Callable[[bytes], bytes], text: bytes) -> None:
    assert decoded(encode(text), encoding, 2000) == text


@each
def test_at_the_limit_and_beyond(encoding: str, encode: Callable[[bytes], bytes]) -> None:
    text = os.urandom(1 << 16)
    assert decoded(encode(text), encoding, len(text)) == text
    with pytest.raises(Refusal) as caught:
        decoded(encode(text), encoding, len(text) - 1)
    assert caught.value.status == 413


@each
def test_bombs_take_no_more_than_the_limit(encoding: str, encode: Callable[[bytes], bytes]) -> None:
    bomb = encode(bytes(256 << 20))
    limit = 1 << 20
    tracemalloc.start()
    try:
        with pytest.raises(Refusal) as caught:
            decoded(bomb, encoding, limit)
        # brotli's and zstd's own windows are no Python objects.
        assert tracemalloc.get_traced_memory()[1] < 4 * limit + len(bomb)
    finally:
        tracemalloc.stop()
    assert caught.value.status == 413


@each
def test_what_is_cut_short_or_followed_by_more(encoding: str, encode: Callable[[bytes], bytes]) -> None:
    whole = encode(b"some text of some length, some text of some length")
    for spoilt in (whole[:-1], whole[: len(whole) // 2], whole[:1], b"rubbish" + whole, whole + b"rubbish"):
        with pytest.raises(Refusal) as caught:
            decoded(spoilt, encoding, 1 << 20)
        assert (caught.value.status, caught.value.code) == (400, "invalid_encoding")


@each
@pytest.mark.parametrize("size", [0, 1, 1 << 14, (1 << 15) + 1, 1 << 17])
def test_the_limit_may_be_far_beyond_the_text(encoding: str, encode: Callable[[bytes], bytes], size: int) -> None:
    """The decoders' own buffers grow in steps: none leaves a part of the text behind."""
    for text in (bytes(size), os.urandom(size)):
        body = encode(text)
        for limit in (size, size + 1, 2 * size + 7, 1 << 20):
            assert decoded(body, encoding, limit) == text


def test_a_skippable_frame_of_zstd_holds_no_text() -> None:
    skippable = b"\x50\x2a\x4d\x18" + (3).to_bytes(4, "little") + b"any"
    assert decoded(skippable + zstd.compress(b"text") + skippable, "zstd", 100) == b"text"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
@given(data=st.binary(max_size=200))
def test_rubbish_is_one_error_or_a_text(encoding: str, data: bytes) -> None:
    try:
        decoded(data, encoding, 1000)
    except Refusal as refusal:
        assert refusal.status in (400, 413)


@pytest.mark.parametrize(
    ("header", "encoding"),
    [("gzip", "gzip"), ("GZip", "gzip"), (" x-gzip ", "gzip"), ("deflate", "deflate"), ("br", "br"), ("zstd", "zstd"),
     ("identity", ""), ("", ""), ("identity, gzip", "gzip"), (",", "")],
)  # fmt: skip
def test_names(header: str, encoding: str) -> None:
    assert encoding_of(header) == encoding


@pytest.mark.parametrize("header", ["gzip, gzip", "gzip,br", "compress", "aws-chunked", "gzip;q=1", "*"])
def test_what_is_stacked_or_unknown(header: str) -> None:
    with pytest.raises(Refusal) as caught:
        encoding_of(header)
    assert (caught.value.status, caught.value.code) == (415, "unsupported_encoding")
    assert caught.value.headers == {"accept-encoding": KNOWN}
