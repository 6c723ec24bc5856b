from math import inf, nan
from typing import Any

import pytest
from support.envoy_messages import (
    HTTPAccessLogEntry,
    StreamAccessLogsMessage,
    TokenUsage,
)

from extproc import _pb as relaxed
from extproc import wire
from extproc.errors import RemoteProtocolError
from extproc.protocol.events import MAX_COUNT, LogEntry
from extproc.protocol.events import TokenUsage as Usage

SERVED = "x-gateway-destination-endpoint-served"


class TestAccessLog:
    def entry(self, message: StreamAccessLogsMessage) -> HTTPAccessLogEntry:
        return message.http_logs.log_entry.add()

    def test_everything_that_is_told(self) -> None:
        message = StreamAccessLogsMessage()
        entry = self.entry(message)
        common = entry.common_properties
        common.metadata.filter_metadata["infer-gateway"].fields["key"].string_value = "00000000000000ff"
        common.metadata.filter_metadata["envoy.lb"].fields[SERVED].string_value = "10.0.0.2:80"
        common.upstream_request_attempt_count = 2
        common.custom_tags["ttft-us"] = "51030"
        entry.response.response_code.value = 503
        entry.response.response_code_details = "via_upstream"
        assert read(message) == [
            LogEntry(
                key="00000000000000ff",
                status=503,
                served="10.0.0.2:80",
                attempts=2,
                details="via_upstream",
                tags={"ttft-us": "51030"},
            )
        ]

    def test_nothing_that_is_told(self) -> None:
        message = StreamAccessLogsMessage()
        self.entry(message)
        assert read(message) == [LogEntry(key="")]
        assert wire.decode_log(b"") == ([], 0)

    @pytest.mark.parametrize(
        ("counts", "usage"),
        [
            ({"prompt_tokens": 10, "cached_tokens": 4, "completion_tokens": 5}, Usage(10, 4, 5)),
            ({"prompt_tokens": 10, "completion_tokens": 5}, Usage(10, None, 5)),
            ({"input_tokens": 10, "cached_tokens": 4, "output_tokens": 5}, Usage(10, 4, 5)),
            # Anthropic counts what is read from and written to the cache beside the input.
            (
                {
                    "input_tokens": 6,
                    "cache_read_input_tokens": 3,
                    "cache_creation_input_tokens": 1,
                    "output_tokens": 5,
                },
                Usage(10, 3, 5),
            ),
            ({"input_tokens": 6, "cache_read_input_tokens": 0}, Usage(6, 0, None)),
            ({"completion_tokens": 5}, Usage(None, None, 5)),
            # What nobody can have counted.
            ({"prompt_tokens": nan, "completion_tokens": 5}, Usage(None, None, 5)),
            ({"prompt_tokens": 1e300, "cached_tokens": inf, "completion_tokens": -1}, Usage()),
        ],
    )
    def test_usage_under_each_apis_names(self, counts: dict[str, int], usage: Usage) -> None:
        message = StreamAccessLogsMessage()
        told = self.entry(message).common_properties.metadata.filter_metadata["infer-gateway.usage"]
        for name, count in counts.items():
            told.fields[name].number_value = count
        assert read(message)[0].usage == usage

    @pytest.mark.parametrize(
        ("told", "usage"),
        [
            ({"input_tokens": 100, "output_tokens": MAX_COUNT, "cached_tokens": 64}, Usage(100, 64, MAX_COUNT)),
            ({"input_tokens": 100, "output_tokens": 2**64 - 1, "cached_tokens": 64}, Usage(100, 64, None)),
            ({"output_tokens": 0}, Usage(None, None, 0)),
            ({}, Usage()),
        ],
    )
    def test_usage_by_the_ai_filter(self, told: dict[str, int], usage: Usage) -> None:
        message = StreamAccessLogsMessage()
        self.pack(self.entry(message), usage_of(told))
        assert read(message)[0].usage == usage

    def test_usage_of_a_type_that_is_not_known(self) -> None:
        message = StreamAccessLogsMessage()
        self.pack(self.entry(message), usage_of({"output_tokens": 5}), "envoy.data.ai.v9.TokenUsage")
        assert read(message)[0].usage == Usage()

    def test_garbage(self) -> None:
        with pytest.raises(RemoteProtocolError, match="not a StreamAccessLogsMessage"):
            wire.decode_log(b"\xff")

    def test_an_entry_that_is_none_costs_itself(self) -> None:
        message = StreamAccessLogsMessage()
        for status in (200, 503):
            self.entry(message).response.response_code.value = status
        garbage = b"\x12\x03\x0a\x01\xff"  # http_logs, of an entry of one byte
        entries, unread = wire.decode_log(garbage + message.SerializeToString() + garbage)
        assert ([entry.status for entry in entries], unread) == ([200, 503], 2)

    def test_usage_that_is_none_costs_itself(self) -> None:
        message = StreamAccessLogsMessage()
        entry = self.entry(message)
        entry.response.response_code.value = 200
        self.pack(entry, b"\xff")
        assert read(message) == [LogEntry(key="", status=200)]

    def test_texts_that_are_not_utf8(self) -> None:
        message = relaxed.HTTPAccessLogEntry()
        message.response.response_code_details = b"a\xff"
        tag = message.common_properties.custom_tags.add()
        tag.key, tag.value = b"ttft-us", b"\xfe1"
        log = relaxed.StreamAccessLogsMessage()
        log.http_logs.log_entry.append(message.SerializeToString())
        assert read(log) == [LogEntry(key="", details="a\ufffd", tags={"ttft-us": "\ufffd1"})]

    def pack(self, entry: HTTPAccessLogEntry, usage: bytes, kind: str = "envoy.data.ai.v3.TokenUsage") -> None:
        packed = entry.common_properties.metadata.typed_filter_metadata["envoy.ai.token_usage"]
        packed.type_url, packed.value = f"type.googleapis.com/{kind}", usage


def read(message: Any) -> list[LogEntry]:
    entries, unread = wire.decode_log(message.SerializeToString())
    assert unread == 0
    return entries


def usage_of(told: dict[str, int]) -> bytes:
    usage = TokenUsage()
    for name, count in told.items():
        (usage.input_token_details.cached_tokens if name == "cached_tokens" else getattr(usage, name)).value = count
    return usage.SerializeToString()
