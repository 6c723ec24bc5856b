"""No byte that a client or a model server had written can make a message of Envoy unreadable.

Envoy's own parser lets strings pass that are not UTF-8; ours would refuse the whole message over one. So there is none
in what the gateway loads, and here every string of Envoy's schema, declared by us or not, is filled with such bytes.
"""

from collections.abc import Iterator

import pytest
from google.protobuf import any_pb2, duration_pb2, struct_pb2, timestamp_pb2, wrappers_pb2
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto
from google.protobuf.descriptor_pb2 import FileDescriptorProto as File
from support import envoy_messages
from support.envoy_binary import descriptor
from support.protos import loaded_files, types_of

from extproc import wire
from extproc.protocol.events import LogEntry

F = FieldDescriptorProto

#: Not UTF-8 at its first byte, in its middle and at its end; cut off, overlong, a surrogate.
INVALID = (b"\xff", b"a\xff", b"a\xc3", b"\xc0\xaf", b"\xed\xa0\x80")

GOOGLES = (any_pb2, duration_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)

#: Roots of what Envoy sends, in the file of each.
ENTRY = "envoy.data.accesslog.v3.HTTPAccessLogEntry"
REQUEST = "envoy.service.ext_proc.v3.ProcessingRequest"
USAGE = "envoy.data.ai.v3.TokenUsage"
FILES = {
    ENTRY: "envoy/data/accesslog/v3/accesslog.proto",
    REQUEST: "envoy/service/ext_proc/v3/external_processor.proto",
    USAGE: "envoy/data/ai/v3/token_usage.proto",
}
#: Messages within messages. Structs hold structs without an end.
DEPTH = 7


def test_nothing_loaded_is_a_string() -> None:
    """A map has no keys of bytes, and the messages that protobuf knows by their names have strings: none is there."""
    found = []
    for file in loaded_files().values():
        for name, item in types_of(file).items():
            assert not name.startswith("google.")
            if isinstance(item, DescriptorProto):
                assert not item.options.map_entry, name
                found += [f"{name}.{field.name}" for field in item.field if field.type == F.TYPE_STRING]
    assert found == []


def test_log_entries_are_parsed_one_by_one() -> None:
    entries = types_of(loaded_files()["envoy/service/accesslog/v3/als.proto"])[
        "envoy.service.accesslog.v3.StreamAccessLogsMessage.HTTPAccessLogEntries"
    ]
    assert isinstance(entries, DescriptorProto)
    assert [field.type for field in entries.field] == [F.TYPE_BYTES]


def schema(files: list[str]) -> dict[str, DescriptorProto]:
    """Every message of Envoy's in these files and in those that they import."""
    found: dict[str, DescriptorProto] = {}
    seen: set[str] = set()
    while files:
        name = files.pop()
        if name in seen:
            continue
        seen.add(name)
        if name.startswith("envoy/") and not name.startswith("envoy/annotations/"):
            file = descriptor(name)
            files += file.dependency
            found |= {n: i for n, i in types_of(file).items() if isinstance(i, DescriptorProto)}
    for module in GOOGLES:
        file = File.FromString(module.DESCRIPTOR.serialized_pb)
        found |= {n: i for n, i in types_of(file).items() if isinstance(i, DescriptorProto)}
    return found


def strings(types: dict[str, DescriptorProto], name: str, depth: int = 0) -> Iterator[list[FieldDescriptorProto]]:
    """The way from a message to each string in it. Types of annotations and extensions, which no message has, are not
    followed.
    """
    for field in types[name].field:
        if field.type == F.TYPE_STRING:
            yield [field]
        elif field.type == F.TYPE_MESSAGE and depth < DEPTH and field.type_name[1:] in types:
            for way in strings(types, field.type_name[1:], depth + 1):
                yield [field, *way]


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))


def message(way: list[FieldDescriptorProto], text: bytes) -> bytes:
    for field in reversed(way):
        text = varint(field.number << 3 | 2) + varint(len(text)) + text
    return text


def spelt(way: list[FieldDescriptorProto]) -> str:
    return ".".join(field.name for field in way)


TYPES = schema(list(FILES.values()))
WAYS = {root: {spelt(way): way for way in strings(TYPES, root)} for root in FILES}


def test_the_ways_are_many() -> None:
    """Envoy's schema was read: what was attacked is among them, and what is not declared by us too."""
    assert {"request.request_id", "common_properties.stream_id", "response.response_code_details"} <= WAYS[ENTRY].keys()
    assert "request_headers.headers.headers.key" in WAYS[REQUEST]
    assert "attributes.value.fields.value.string_value" in WAYS[REQUEST]
    assert WAYS[USAGE].keys() == {"model"}


def entry(status: int) -> bytes:
    good = envoy_messages.HTTPAccessLogEntry()
    good.response.response_code.value = status
    return bytes(good.SerializeToString())


def log_of(*entries: bytes) -> bytes:
    listed = b"".join(b"\x0a" + varint(len(one)) + one for one in entries)
    return b"\x12" + varint(len(listed)) + listed


@pytest.mark.parametrize("way", WAYS[ENTRY])
def test_an_entry_of_the_log(way: str) -> None:
    """Nothing is lost, not even the entry itself."""
    for text in INVALID:
        log = log_of(entry(200), entry(201) + message(WAYS[ENTRY][way], text), entry(202))
        entries, unread = wire.decode_log(log)
        assert ([one.status for one in entries], unread) == ([200, 201, 202], 0)
        assert all(type(one) is LogEntry for one in entries)


@pytest.mark.parametrize("way", WAYS[REQUEST])
def test_a_message_of_a_stream(way: str) -> None:
    for text in INVALID:
        for kind in ("request_headers", "response_headers", "response_trailers"):
            good = envoy_messages.ProcessingRequest()
            getattr(good, kind).SetInParent()
            wire.decode(good.SerializeToString() + message(WAYS[REQUEST][way], text))


def test_the_model_in_the_usage() -> None:
    for text in INVALID:
        bad = envoy_messages.HTTPAccessLogEntry()
        usage = envoy_messages.TokenUsage()
        usage.output_tokens.value = 7
        packed = bad.common_properties.metadata.typed_filter_metadata["envoy.ai.token_usage"]
        packed.type_url = f"type.googleapis.com/{USAGE}"
        packed.value = usage.SerializeToString() + message(WAYS[USAGE]["model"], text)
        (one,), unread = wire.decode_log(log_of(bad.SerializeToString()))
        assert (one.usage.completion, unread) == (7, 0)
