"""The schema of Envoy's messages as `proto/` has it, and as the gateway itself loads it, as data."""

from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet

from extproc import _pb

_GENERATE = Path(__file__).parents[2] / "proto" / "generate.py"


@cache
def files() -> dict[str, FileDescriptorProto]:
    """All files by path, Google's among them, as protoc reads them."""
    spec = spec_from_file_location("generate", _GENERATE)
    assert spec is not None
    assert spec.loader is not None
    generate = module_from_spec(spec)
    spec.loader.exec_module(generate)
    return {file.name: file for file in generate.compile_sources().file}


@cache
def loaded_files() -> dict[str, FileDescriptorProto]:
    """All files by path, as the gateway loads them."""
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
