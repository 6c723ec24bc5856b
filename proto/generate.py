"""Turns the .proto files next to it into `extproc/_pb`: `python proto/generate.py`.

`--check` writes nothing; it exits 1 and names the files that are not as they would be written.

What is committed is a descriptor set and its types, not protoc's Python code: that would demand a protobuf at least as
new as the protoc that wrote it, and would claim the names `envoy` and `google` in a registry that the process shares.

The sources are as Envoy has them; what is written of them is relaxed. A protobuf parser refuses a whole message over
one `string` that is not UTF-8, and Envoy puts there what clients and model servers sent. On the wire a `string` is
`bytes`, a map is a list of entries, and a message is `bytes` too: those are read here.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

SOURCES = Path(__file__).resolve().parent
TARGET = SOURCES.parent / "extproc" / "_pb"

DESCRIPTORS = "descriptors.binpb"

#: Google's messages go by a package of our own: what protobuf knows of them by their names would not fit.
PACKAGES = {"google.protobuf": "relaxed.protobuf"}

#: Messages that are bytes here, to be parsed one by one: one that cannot be read costs itself, not its batch.
UNPARSED = frozenset({".envoy.service.accesslog.v3.StreamAccessLogsMessage.HTTPAccessLogEntries.log_entry"})

_SCALARS = {
    FieldDescriptorProto.TYPE_DOUBLE: "float",
    FieldDescriptorProto.TYPE_FLOAT: "float",
    FieldDescriptorProto.TYPE_BOOL: "bool",
    FieldDescriptorProto.TYPE_BYTES: "bytes",
}  # every other scalar, and every enum, is an int

_MODULE = '''\
"""The messages that Envoy and this gateway exchange, as `proto/` defines them.

Written by proto/generate.py: edit the .proto files instead. The descriptors live in a pool of their own, so that no
other copy of Envoy's API in the process can clash with them.
"""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

__all__ = [
    "DecodeError",
{names}]


def _files(data: bytes) -> Iterator[bytes]:
    """The files of a serialized FileDescriptorSet, whose own class takes longer to import than all of this."""
    position = 0
    while position < len(data):
        position += 1  # the tag: field 1, length-delimited
        size = shift = 0
        while data[position] & 0x80:
            size |= (data[position] & 0x7F) << shift
            shift += 7
            position += 1
        size |= data[position] << shift
        position += 1
        yield data[position : position + size]
        position += size


_pool = DescriptorPool()
for _file in _files((Path(__file__).parent / "{descriptors}").read_bytes()):
    _pool.AddSerializedFile(_file)


def _message(name):
    return GetMessageClass(_pool.FindMessageTypeByName(name))


def _enum(name):
    """The enum's numbers by name. Fields hold plain integers: a sender may be newer than these lists."""
    return SimpleNamespace(**{{value.name: value.number for value in _pool.FindEnumTypeByName(name).values}})


{assignments}'''

_STUB = '''\
"""Types of the messages. Written by proto/generate.py: edit the .proto files instead."""

from abc import ABCMeta
from collections.abc import Iterable, Sequence
from typing import Final, Generic, Literal, Self, TypeVar

_V = TypeVar("_V")
_M = TypeVar("_M", bound=Message)

class DecodeError(Exception): ...

class Message:
    @classmethod
    def FromString(cls, data: bytes, /) -> Self: ...
    def SerializeToString(self, *, deterministic: bool = ...) -> bytes: ...
    def ByteSize(self) -> int: ...
    def SetInParent(self) -> None: ...
    def Clear(self) -> None: ...
    def CopyFrom(self, other: Self, /) -> None: ...
    def MergeFrom(self, other: Self, /) -> None: ...

class _Values(Sequence[_V], Generic[_V], metaclass=ABCMeta):
    def append(self, value: _V, /) -> None: ...
    def extend(self, values: Iterable[_V], /) -> None: ...

class _Messages(Sequence[_M], Generic[_M], metaclass=ABCMeta):
    def add(self) -> _M: ...
    def append(self, message: _M, /) -> None: ...
    def extend(self, messages: Iterable[_M], /) -> None: ...
'''


def compile_sources() -> FileDescriptorSet:
    """The descriptors of all sources and their imports, in order of dependence, without what has no use at run time."""
    sources = sorted(path.relative_to(SOURCES).as_posix() for path in SOURCES.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / DESCRIPTORS
        subprocess.run(
            [
                *(sys.executable, "-m", "grpc_tools.protoc", f"-I{SOURCES}"),
                *("--include_imports", f"--descriptor_set_out={output}", *sources),
            ],
            check=True,
        )
        descriptors = FileDescriptorSet.FromString(output.read_bytes())
    for file in descriptors.file:
        file.ClearField("options")
        for message in file.message_type:
            _strip(message)
    return descriptors


def _strip(message: DescriptorProto) -> None:
    """Leaves out what differs between versions of protoc or is derived by the runtime: options and JSON names."""
    for field in message.field:
        field.ClearField("json_name")
        field.ClearField("options")
    for nested in message.nested_type:
        _strip(nested)


def relaxed(descriptors: FileDescriptorSet) -> FileDescriptorSet:
    """The same on the wire, with nothing in it over which a parser could refuse more than what cannot be read."""
    result = FileDescriptorSet()
    result.CopyFrom(descriptors)
    for file in result.file:
        file.package = PACKAGES.get(file.package, file.package)
        file.name = _renamed(file.name, "/")
        file.dependency[:] = [_renamed(name, "/") for name in file.dependency]
        for message in file.message_type:
            _relax(f".{file.package}.{message.name}", message)
        for service in file.service:
            for method in service.method:
                method.input_type, method.output_type = _renamed(method.input_type), _renamed(method.output_type)
    return result


def _relax(name: str, message: DescriptorProto) -> None:
    # A map's entries are messages that protoc makes for it: without the option they are what they are on the wire.
    message.options.ClearField("map_entry")
    for field in message.field:
        if field.type == FieldDescriptorProto.TYPE_STRING or f"{name}.{field.name}" in UNPARSED:
            field.type = FieldDescriptorProto.TYPE_BYTES
            field.ClearField("type_name")
        elif field.type_name:
            field.type_name = _renamed(field.type_name)
    for nested in message.nested_type:
        _relax(f"{name}.{nested.name}", nested)


def _renamed(name: str, separator: str = ".") -> str:
    for before, after in PACKAGES.items():
        name = name.replace(before.replace(".", separator) + separator, after.replace(".", separator) + separator)
    return name


class Names:
    """Messages and enums that are to be had, by full name (".package.Outer.Inner"), and their flat names."""

    def __init__(self, descriptors: FileDescriptorSet) -> None:
        everything = {name: item for file in descriptors.file for name, item in _walk(file)}
        wanted = [name for name in everything if name.startswith(".envoy.")]
        reached: dict[str, DescriptorProto | EnumDescriptorProto] = {}
        while wanted:
            name = wanted.pop()
            if name in reached:
                continue
            item = reached[name] = everything[name]
            if isinstance(item, DescriptorProto):
                wanted.extend(field.type_name for field in item.field if field.type_name)
        ordered = {name: reached[name] for name in everything if name in reached}
        self.messages = {n: i for n, i in ordered.items() if isinstance(i, DescriptorProto)}
        self.enums = {n: i for n, i in ordered.items() if isinstance(i, EnumDescriptorProto)}
        self.flat: Mapping[str, str] = {n: _flat(n) for n in (*self.messages, *self.enums)}
        if len(set(self.flat.values())) < len(self.flat):
            raise SystemExit("two messages or enums have one flat name: one of them must go by another")


def _flat(name: str) -> str:
    outer, _, inner = name.rpartition(".")
    # Entries of maps are called after their field, of which several messages have one.
    return (
        outer.rpartition(".")[2] + inner
        if inner.endswith("Entry") and outer.rpartition(".")[2][:1].isupper()
        else inner
    )


def _walk(file: FileDescriptorProto) -> Iterator[tuple[str, DescriptorProto | EnumDescriptorProto]]:
    def inside(prefix: str, message: DescriptorProto) -> Iterator[tuple[str, DescriptorProto | EnumDescriptorProto]]:
        name = f"{prefix}.{message.name}"
        yield name, message
        for enum in message.enum_type:
            yield f"{name}.{enum.name}", enum
        for nested in message.nested_type:
            yield from inside(name, nested)

    for enum in file.enum_type:
        yield f".{file.package}.{enum.name}", enum
    for message in file.message_type:
        yield from inside(f".{file.package}", message)


def render_module(names: Names) -> str:
    lines = [f'{names.flat[name]} = _message("{name[1:]}")' for name in names.messages]
    lines += [f'{names.flat[name]} = _enum("{name[1:]}")' for name in names.enums]
    listed = "".join(f'    "{flat}",\n' for flat in sorted(names.flat.values()))
    return _MODULE.format(names=listed, descriptors=DESCRIPTORS, assignments="\n".join(lines) + "\n")


def render_stub(names: Names) -> str:
    blocks = [_stub_of_message(names, name, message) for name, message in names.messages.items()]
    for name, enum in names.enums.items():
        values = "".join(f"    {value.name}: Final = {value.number}\n" for value in enum.value)
        blocks.append(f'class {names.flat[name]}:\n    """{name[1:]}: its numbers."""\n\n{values}')
    return "\n".join([_STUB, *blocks])


def _stub_of_message(names: Names, full_name: str, message: DescriptorProto) -> str:
    lines = [f"class {names.flat[full_name]}(Message):", f'    """{full_name[1:]}"""', ""]
    arguments = []
    for field in message.field:
        kind, argument, assignable = _type_of(names, field)
        arguments.append(f"        {field.name}: {argument} = ...,\n")
        if assignable:
            lines.append(f"    {field.name}: {kind}")
        else:
            lines += ["    @property", f"    def {field.name}(self) -> {kind}: ..."]
    if arguments:
        lines.append(f"    def __init__(\n        self,\n        *,\n{''.join(arguments)}    ) -> None: ...")
    else:
        lines.append("    def __init__(self) -> None: ...")
    fields = [f'"{field.name}"' for field in message.field]
    present = [f'"{field.name}"' for field in message.field if _has_presence(field)]
    if fields:
        lines.append(f"    def ClearField(self, name: Literal[{', '.join(fields)}], /) -> None: ...")
    if present:
        lines.append(f"    def HasField(self, name: Literal[{', '.join(present)}], /) -> bool: ...")
    if len(message.oneof_decl) > 1:
        raise SystemExit(f"{full_name} has several oneofs: WhichOneof needs overloads")
    for oneof in message.oneof_decl:
        members = ", ".join(f'"{field.name}"' for field in message.field if field.HasField("oneof_index"))
        lines.append(f'    def WhichOneof(self, name: Literal["{oneof.name}"], /) -> Literal[{members}] | None: ...')
    return "\n".join(lines) + "\n"


def _has_presence(field: FieldDescriptorProto) -> bool:
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return False
    return bool(field.type == FieldDescriptorProto.TYPE_MESSAGE or field.HasField("oneof_index"))


def _type_of(names: Names, field: FieldDescriptorProto) -> tuple[str, str, bool]:
    """The types of a field as attribute and as constructor argument, and whether the attribute can be assigned to."""
    is_message = field.type == FieldDescriptorProto.TYPE_MESSAGE
    element = _element(names, field)
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"{'_Messages' if is_message else '_Values'}[{element}]", f"Iterable[{element}]", False
    return (element, f"{element} | None", False) if is_message else (element, element, True)


def _element(names: Names, field: FieldDescriptorProto) -> str:
    if field.type == FieldDescriptorProto.TYPE_MESSAGE:
        return names.flat[field.type_name]
    return _SCALARS.get(field.type, "int")


def outputs() -> tuple[FileDescriptorSet, dict[str, bytes]]:
    """The descriptors, and the content of each file of `extproc/_pb`."""
    descriptors = relaxed(compile_sources())
    names = Names(descriptors)
    return descriptors, {
        "__init__.py": render_module(names).encode(),
        "__init__.pyi": render_stub(names).encode(),
        DESCRIPTORS: descriptors.SerializeToString(deterministic=True),
    }


def drift(target: Path) -> list[Path]:
    """The files in `target` that are not as they would be written."""
    descriptors, files = outputs()
    wrong = []
    for name, content in files.items():
        path = target / name
        if not path.is_file():
            wrong.append(path)
        elif name == DESCRIPTORS:
            # Not byte by byte: how a message is serialized may change between versions of protobuf.
            if FileDescriptorSet.FromString(path.read_bytes()) != descriptors:
                wrong.append(path)
        elif path.read_bytes() != content:
            wrong.append(path)
    return wrong


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Writes extproc/_pb from the .proto files.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a file is out of date")
    parser.add_argument("--target", type=Path, default=TARGET, help="folder to write to (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.check:
        wrong = drift(options.target)
        for path in wrong:
            print(f"{path}: not what proto/generate.py would write", file=sys.stderr)
        return 1 if wrong else 0
    options.target.mkdir(parents=True, exist_ok=True)
    for name, content in outputs()[1].items():
        (options.target / name).write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
