"""The schema of our messages as data, read from what the gateway itself loads."""

from functools import cache
from pathlib import Path

from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet

from extproc import _pb


@cache
def files() -> dict[str, FileDescriptorProto]:
    """All files by path, Google's among them."""
    data = (Path(_pb.__file__).parent / "descriptors.binpb").read_bytes()
    return {file.name: file for file in FileDescriptorSet.FromString(data).file}


def types_of(file: FileDescriptorProto) -> dict[str, DescriptorProto | EnumDescriptorProto]:
    """Every message, map entries included, and enum by full name."""
    found: dict[str, DescriptorProto | EnumDescriptorProto] = {}

    def add(prefix: str, message: DescriptorProto) -> None:
        name = f"{prefix}.{message.name}"
        found[name] = message
        for enum in message.enum_type:
            found[f"{name}.{enum.name}"] = enum
        for nested in message.nested_type:
            add(name, nested)

    for enum in file.enum_type:
        found[f"{file.package}.{enum.name}"] = enum
    for message in file.message_type:
        add(file.package, message)
    return found


@cache
def _all() -> dict[str, DescriptorProto | EnumDescriptorProto]:
    return {
        name: item
        for file in files().values()
        for name, item in types_of(file).items()
        # Google's files bring more than is used.
        if file.name.startswith("envoy/") or hasattr(_pb, name.rpartition(".")[2]) or ".Struct." in name
    }


@cache
def messages() -> dict[str, DescriptorProto]:
    return {n: i for n, i in _all().items() if isinstance(i, DescriptorProto) and not i.options.map_entry}


@cache
def map_entries() -> dict[str, DescriptorProto]:
    return {n: i for n, i in _all().items() if isinstance(i, DescriptorProto) and i.options.map_entry}


@cache
def enums() -> dict[str, EnumDescriptorProto]:
    return {n: i for n, i in _all().items() if isinstance(i, EnumDescriptorProto)}
