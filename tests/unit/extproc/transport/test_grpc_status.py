from typing import Any
from urllib.parse import unquote

import pytest
from hpack import Decoder

from extproc.transport.grpc_status import MAX_MESSAGE, NOT_GRPC, OK_TRAILERS, RESPONSE_HEADERS, Status, trailers


def decoded(block: bytes) -> dict[Any, Any]:
    decoder = Decoder()
    fields = dict(decoder.decode(block))
    assert not decoder.header_table.dynamic_entries  # no block may change the peer's table
    return fields


def test_constant_blocks() -> None:
    assert decoded(RESPONSE_HEADERS) == {":status": "200", "content-type": "application/grpc"}
    assert decoded(NOT_GRPC) == {":status": "415"}
    assert decoded(OK_TRAILERS) == {"grpc-status": "0"}


@pytest.mark.parametrize(
    "message", ["plain words", "100 %", "größer\n", "x" * 126, "x" * 127, "x" * 500, '"\x7f\x00~ ']
)
def test_message_survives(message: str) -> None:
    fields = decoded(trailers(Status.INTERNAL, message))
    assert fields["grpc-status"] == "13"
    assert fields["grpc-message"].isascii()
    assert fields["grpc-message"].isprintable()
    assert unquote(fields["grpc-message"]) == message


def test_message_is_cut() -> None:
    assert decoded(trailers(Status.INTERNAL, "x" * 5000))["grpc-message"] == "x" * MAX_MESSAGE
    assert len(trailers(Status.INTERNAL, "\0" * 5000)) < 16384
