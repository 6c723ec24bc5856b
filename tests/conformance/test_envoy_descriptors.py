"""Our .proto files against the descriptors inside the Envoy that the gateway is run with."""

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FieldDescriptorProto
from support.envoy_binary import descriptor
from support.protos import files, types_of

OURS = sorted(name for name in files() if name.startswith("envoy/"))


def shape(message: DescriptorProto, field: FieldDescriptorProto) -> tuple[object, ...]:
    oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
    return field.number, field.type, field.type_name, field.label, field.proto3_optional, oneof


@pytest.mark.parametrize("name", OURS)
def test_same_as_in_envoy(name):
    upstream = descriptor(name)
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
def test_nothing_of_ext_proc_is_missing(name):
    upstream = descriptor(name)
    theirs, ours = types_of(upstream), types_of(files()[name])
    assert theirs.keys() == ours.keys()
    for type_name, item in theirs.items():
        if isinstance(item, DescriptorProto):
            declared = ours[type_name]
            assert isinstance(declared, DescriptorProto)
            assert {field.name for field in item.field} == {field.name for field in declared.field}


def test_the_methods():
    for name in ("envoy/service/ext_proc/v3/external_processor.proto", "envoy/service/accesslog/v3/als.proto"):
        (service,), (there,) = files()[name].service, descriptor(name).service
        assert service.name == there.name
        (method,), (theirs,) = service.method, there.method
        assert (method.name, method.input_type, method.output_type) == (
            theirs.name,
            theirs.input_type,
            theirs.output_type,
        )
        assert (method.client_streaming, method.server_streaming) == (theirs.client_streaming, theirs.server_streaming)
