"""Our messages against envoy-data-plane: another codec (betterproto2), made from upstream's own .proto files.

Its copy of the API is older than Envoy 1.40; what it lacks is listed here and held against Envoy itself in
test_envoy_descriptors.py.
"""

import dataclasses
import datetime
import importlib
from functools import cache
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import EnumDescriptorProto, FieldDescriptorProto
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import envoy_messages
from support.protos import enums, map_entries, messages

from extproc import _pb

#: betterproto2 warns where a deprecated field has a value; those fields are part of the format.
pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")

F = FieldDescriptorProto

#: In Envoy 1.40, not in envoy-data-plane 2.2.
NEWER_MESSAGES = {
    "envoy.data.ai.v3.TokenUsage",
    "envoy.data.ai.v3.InputTokenDetails",
    "envoy.data.ai.v3.OutputTokenDetails",
    "envoy.service.ext_proc.v3.ProcessingRequest.FlowControlInit",
    "envoy.service.ext_proc.v3.ProcessingRequest.ClientWindowUpdate",
    "envoy.service.ext_proc.v3.ProcessingResponse.ServerWindowUpdate",
}
NEWER_ENUMS = {"envoy.data.ai.v3.TokenUsage.ExtractionStatus", "envoy.type.ai.v3.LLMProtocol"}
NEWER_FIELDS = {
    "envoy.service.ext_proc.v3.ProcessingRequest": {"flow_control_init", "client_window_update"},
    "envoy.service.ext_proc.v3.ProcessingResponse": {
        "typed_dynamic_metadata", "server_window_update", "request_drain_requests", "request_drain_responses",
    },
    "envoy.service.ext_proc.v3.HttpBody": {"drain_complete"},
    "envoy.service.ext_proc.v3.StreamedBodyResponse": {"drain_complete"},
}  # fmt: skip

SHARED = sorted(name for name in messages() if name not in NEWER_MESSAGES)

_TYPE_NAMES = {number: F.Type.Name(number).removeprefix("TYPE_").lower() for number in F.Type.values()}


@cache
def theirs(full_name: str) -> Any:
    """Their class of a message or enum of ours: `a.b.v3.Outer.Inner` is `OuterInner` in module `a.b.v3`. Or None."""
    parts = full_name.split(".")
    depth = next(index for index, part in enumerate(parts) if part[0].isupper())
    try:
        module = importlib.import_module(".".join(["envoy_data_plane", *parts[:depth]]))
    except ModuleNotFoundError:
        return None
    wanted = "".join(parts[depth:]).lower()
    found = [value for name, value in vars(module).items() if name.lower() == wanted]
    return found[0] if found else None


def fields_of(full_name: str) -> list[FieldDescriptorProto]:
    """The fields that both sides have."""
    return [field for field in messages()[full_name].field if field.name not in NEWER_FIELDS.get(full_name, ())]


def is_map(field: FieldDescriptorProto) -> bool:
    return field.type_name[1:] in map_entries()


def is_repeated(field: FieldDescriptorProto) -> bool:
    return field.label == F.LABEL_REPEATED


def has_presence(field: FieldDescriptorProto) -> bool:
    return not is_repeated(field) and (field.type == F.TYPE_MESSAGE or field.HasField("oneof_index"))


# Names, numbers and types


def test_what_they_lack_is_what_is_listed():
    lacking = {name: theirs(name) for name in [*messages(), *enums()]}
    assert {name for name, there in lacking.items() if there is None} == NEWER_MESSAGES | NEWER_ENUMS
    fields = {}
    for name in SHARED:
        known = {field.name for field in dataclasses.fields(theirs(name))}
        if absent := {field.name for field in messages()[name].field} - known:
            fields[name] = absent
    assert fields == NEWER_FIELDS


@pytest.mark.parametrize("full_name", SHARED)
def test_fields_have_the_same_number_type_and_name(full_name):
    oneofs = [oneof.name for oneof in messages()[full_name].oneof_decl]
    known = {field.name: field for field in dataclasses.fields(theirs(full_name))}
    for field in fields_of(full_name):
        there = known[field.name].metadata["betterproto"]
        assert there.number == field.number
        assert there.group == (oneofs[field.oneof_index] if field.HasField("oneof_index") else None)
        if is_map(field):
            key, value = map_entries()[field.type_name[1:]].field
            assert [part.proto_type for part in there.map_meta] == [_TYPE_NAMES[key.type], _TYPE_NAMES[value.type]]
        else:
            assert there.proto_type == _TYPE_NAMES[field.type]
            assert there.repeated == is_repeated(field)
            if field.type_name and there.unwrap is None:
                assert theirs(field.type_name[1:]).__name__ in str(known[field.name].type)


@pytest.mark.parametrize("full_name", sorted(name for name in enums() if name not in NEWER_ENUMS))
def test_enums_have_the_same_names_and_numbers(full_name):
    enum: EnumDescriptorProto = enums()[full_name]
    there = {int(member): member.name.strip("_").lower() for member in theirs(full_name)}
    ours = {value.number: value.name.lower() for value in enum.value}
    assert ours.keys() == there.keys()
    # They take a prefix off that all members share.
    assert all(ours[number].replace("_", "").endswith(name.replace("_", "")) for number, name in there.items())


# Values

# What a message says, in a form both sides can be brought to: a dict of the fields that are present; scalars without
# presence are there unless they are zero; so are lists and maps unless they are empty.

_SCALARS: dict[int, st.SearchStrategy[Any]] = {
    F.TYPE_STRING: st.text(max_size=6),
    F.TYPE_BYTES: st.binary(max_size=6),
    F.TYPE_BOOL: st.booleans(),
    F.TYPE_DOUBLE: st.floats(allow_nan=False),
    F.TYPE_UINT32: st.integers(0, 2**32 - 1),
    F.TYPE_UINT64: st.integers(0, 2**64 - 1),
    F.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    F.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
}
# Whole microseconds, since their Duration is a timedelta; not negative, since betterproto2 0.9 gets the sign wrong.
_DURATIONS = st.fixed_dictionaries(
    {"seconds": st.integers(0, 10**9), "nanos": st.integers(0, 999_999).map(lambda micros: micros * 1000)}
)


@st.composite
def contents(draw: st.DrawFn, full_name: str, depth: int = 0, wanted: str = "") -> dict[str, Any]:
    """A message's content. The field `wanted` is sure to be in it."""
    if full_name == "google.protobuf.Duration":
        duration = draw(_DURATIONS)
        return {name: value or 1000 for name, value in duration.items() if value or name == wanted}
    # Of each oneof, the field that is to be present; empty for none.
    chosen = {f.oneof_index: f.name for f in fields_of(full_name) if f.name == wanted and f.HasField("oneof_index")}
    content = {}
    for field in fields_of(full_name):
        # Structs hold structs; other messages are at most so deep.
        if field.type == F.TYPE_MESSAGE and depth > 6:
            continue
        if field.name == wanted:
            value = _value(field, depth, least=1)
            content[field.name] = draw(value if has_presence(field) or is_repeated(field) else value.filter(bool))
            continue
        if field.HasField("oneof_index"):
            members = [f.name for f in fields_of(full_name) if f.HasField("oneof_index")]
            if field.oneof_index not in chosen:
                chosen[field.oneof_index] = draw(st.sampled_from([*members, ""]))
            if chosen[field.oneof_index] != field.name:
                continue
        elif has_presence(field) and draw(st.integers(0, 3)) == 0:
            continue
        value = draw(_value(field, depth))
        if has_presence(field) or value:
            content[field.name] = value
    return content


def _value(field: FieldDescriptorProto, depth: int, *, least: int = 0) -> st.SearchStrategy[Any]:
    if is_map(field):
        key, value = map_entries()[field.type_name[1:]].field
        return st.dictionaries(_element(key, depth), _element(value, depth), min_size=least, max_size=2)
    if is_repeated(field):
        return st.lists(_element(field, depth), min_size=least, max_size=3)
    return _element(field, depth)


def _element(field: FieldDescriptorProto, depth: int) -> st.SearchStrategy[Any]:
    if field.type == F.TYPE_MESSAGE:
        return contents(field.type_name[1:], depth + 1)
    if field.type == F.TYPE_ENUM:
        return st.sampled_from([value.number for value in enums()[field.type_name[1:]].value])
    return _SCALARS[field.type]


def fill(message: Any, full_name: str, content: dict[str, Any]) -> Any:
    """Writes `content` into a message of ours, by the API that the gateway itself uses."""
    message.SetInParent()
    for field in messages()[full_name].field:
        if field.name not in content:
            continue
        value = content[field.name]
        if is_map(field):
            entry = map_entries()[field.type_name[1:]].field[1]
            target = getattr(message, field.name)
            for key, item in value.items():
                if entry.type == F.TYPE_MESSAGE:
                    fill(target[key], entry.type_name[1:], item)
                else:
                    target[key] = item
        elif field.type == F.TYPE_MESSAGE:
            if is_repeated(field):
                for item in value:
                    fill(getattr(message, field.name).add(), field.type_name[1:], item)
            else:
                fill(getattr(message, field.name), field.type_name[1:], value)
        elif is_repeated(field):
            getattr(message, field.name).extend(value)
        else:
            setattr(message, field.name, value)
    return message


def our_content(message: Any, full_name: str) -> dict[str, Any]:
    content = {}
    for field in messages()[full_name].field:
        if has_presence(field) and not message.HasField(field.name):
            continue
        value = _content(field, getattr(message, field.name), our_content)
        if has_presence(field) or value:
            content[field.name] = value
    return content


def their_content(message: Any, full_name: str) -> dict[str, Any]:
    if isinstance(message, datetime.timedelta):
        seconds, micros = divmod(message // datetime.timedelta(microseconds=1), 10**6)
        return {k: v for k, v in {"seconds": seconds, "nanos": micros * 1000}.items() if v}
    if isinstance(message, bool | int):  # a wrapper that was unwrapped
        return {"value": message} if message else {}
    content = {}
    for field in fields_of(full_name):
        value = getattr(message, field.name)
        if value is None:
            continue
        value = _content(field, value, their_content)
        if has_presence(field) or value:
            content[field.name] = value
    return content


def _content(field: FieldDescriptorProto, value: Any, of_message: Any) -> Any:
    if is_map(field):
        entry = map_entries()[field.type_name[1:]].field[1]
        return {key: _single(entry, item, of_message) for key, item in value.items()}
    if is_repeated(field):
        return [_single(field, item, of_message) for item in value]
    return _single(field, value, of_message)


def _single(field: FieldDescriptorProto, value: Any, of_message: Any) -> Any:
    if field.type == F.TYPE_MESSAGE:
        return of_message(value, field.type_name[1:])
    return int(value) if field.type == F.TYPE_ENUM else value


FIELDS = [(name, field.name) for name in SHARED for field in fields_of(name)]


@pytest.mark.parametrize(("full_name", "wanted"), FIELDS)
def test_values_survive_both_codecs(full_name, wanted):
    ours = getattr(envoy_messages, full_name.rpartition(".")[2])
    relaxed = getattr(_pb, full_name.rpartition(".")[2])

    @settings(max_examples=8, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(contents(full_name, wanted=wanted))
    def round_trip(content: dict[str, Any]) -> None:
        message = fill(ours(), full_name, content)
        assert our_content(message, full_name) == content
        there = theirs(full_name).parse(message.SerializeToString())
        assert their_content(there, full_name) == content
        back = ours.FromString(bytes(there))
        assert our_content(back, full_name) == content
        assert back == message
        # What the gateway itself reads and writes: the same, whatever it takes for bytes.
        loaded = relaxed.FromString(message.SerializeToString())
        assert ours.FromString(loaded.SerializeToString()) == message

    round_trip()


def test_a_message_without_fields_is_no_bytes():
    assert envoy_messages.StreamAccessLogsResponse().SerializeToString() == b""
    assert bytes(theirs("envoy.service.accesslog.v3.StreamAccessLogsResponse")()) == b""


# What was left out

#: Nothing of ext_proc v3: its messages are whole. Of the access log, all that does not say how a request
#: ended: nobody reads it.
LEFT_OUT = {
    "envoy.data.accesslog.v3.AccessLogCommon": {
        "access_log_type", "connection_termination_details", "downstream_direct_remote_address",
        "downstream_local_address", "downstream_remote_address", "downstream_transport_failure_reason",
        "downstream_wire_bytes_received", "downstream_wire_bytes_sent", "filter_state_objects",
        "intermediate_log_entry", "response_flags", "route_name", "sample_rate", "start_time", "stream_id",
        "time_to_first_downstream_tx_byte",
        "time_to_first_upstream_rx_byte", "time_to_first_upstream_tx_byte", "time_to_last_downstream_tx_byte",
        "time_to_last_rx_byte", "time_to_last_upstream_rx_byte", "time_to_last_upstream_tx_byte", "tls_properties",
        "upstream_cluster", "upstream_local_address", "upstream_remote_address", "upstream_transport_failure_reason",
        "upstream_wire_bytes_received", "upstream_wire_bytes_sent",
    },
    "envoy.data.accesslog.v3.HTTPAccessLogEntry": {"protocol_version", "request"},
    "envoy.data.accesslog.v3.HTTPResponseProperties": {
        "downstream_header_bytes_sent", "response_body_bytes", "response_headers", "response_headers_bytes",
        "response_trailers", "upstream_header_bytes_received",
    },
    "envoy.service.accesslog.v3.StreamAccessLogsMessage": {"identifier", "tcp_logs"},
}  # fmt: skip


def test_what_was_left_out_is_what_is_listed():
    left_out = {}
    for name in SHARED:
        declared = {field.name for field in messages()[name].field}
        if absent := {field.name for field in dataclasses.fields(theirs(name))} - declared:
            left_out[name] = absent - {"_unknown_fields"}
    assert {name: fields for name, fields in left_out.items() if fields} == LEFT_OUT


def test_no_message_of_ext_proc_was_left_out():
    module = importlib.import_module("envoy_data_plane.envoy.service.ext_proc.v3")
    there = {name for name in module.__all__ if "ExternalProcessor" not in name}
    ours = {
        name.removeprefix("envoy.service.ext_proc.v3.").replace(".", "")
        for name in [*messages(), *enums()]
        if name.startswith("envoy.service.ext_proc.v3.")
    }
    assert there - ours == set()
