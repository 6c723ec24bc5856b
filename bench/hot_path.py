"""The budget of one request in the sidecar, line by line: CPU µs, everything on, without the transport's own share.

The messages are such as Envoy sends. Each stage of `extproc/request/pipeline.py` is measured alone, then the whole
of an exchange: request headers, body, end of the stream, its line in the log. `bench/transport.py` has the transport.

    python bench/hot_path.py [--pods 8] [--kib 1] [--rounds 7]
"""

# ruff: noqa: E402 - the paths come first
import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "tests")]

import msgspec
from support.envoy_messages import ProcessingRequest, StreamAccessLogsMessage, TokenUsage

from extproc import wire
from extproc.auth.base import Identity
from extproc.outcome.ledger import Ledger
from extproc.outcome.outcome import Outcome, from_log
from extproc.parsers import parse
from extproc.process.build_info import compiled
from extproc.protocol.headers import AUTHORIZATION, Headers
from extproc.protocol.replies import Mutation, RequestBodyReply, Tag
from extproc.request.context import Context
from extproc.request.mutation import destination
from extproc.request.pipeline import Pipeline
from extproc.routing.choice import Router
from extproc.routing.pool import Pool
from extproc.telemetry.decision_log import DecisionLog
from extproc.telemetry.metrics import Metrics
from scheduler.builder import build
from scheduler.config import SchedulerConfig
from scheduler.cycle import schedule
from scheduler.pool.signals import Sample
from scheduler.pool.store import PodStore
from scheduler.registry import in_tree_registry
from scheduler.types import Pod, Request

PATH = "/v1/chat/completions"
#: Different prompts, of which groups share their system prompt.
PROMPTS = 512
GROUPS = 16
CALLS = 1024
#: Requests that are told of at once: Envoy collects them for 50 ms.
LOGGED = 32


def header_message() -> bytes:
    message = ProcessingRequest()
    values = {
        ":method": "POST", ":path": PATH, ":authority": "models.example", ":scheme": "https",
        "content-type": "application/json", "content-length": "1024", "user-agent": "OpenAI/Python 2.8.0",
        "accept": "application/json", "accept-encoding": "gzip, deflate", "x-forwarded-for": "10.1.2.3",
        "x-forwarded-proto": "https", "x-request-id": "4c1c2f3e-9f0b-4a55-8a53-7a5e5a3f2f11",
        "x-stainless-lang": "python", "authorization": "Bearer " + "x" * 420,
    }  # fmt: skip
    for name, value in values.items():
        header = message.request_headers.headers.headers.add()
        header.key = name
        header.raw_value = value.encode()
    message.metadata_context.SetInParent()
    message.protocol_config.request_body_mode = 2
    return bytes(message.SerializeToString())


def bodies(size: int) -> list[bytes]:
    rng = random.Random(1)
    systems = [rng.randbytes(size).hex()[: max(size - 300, 64)] for _ in range(GROUPS)]
    return [
        msgspec.json.encode(
            {
                "model": "bench",
                "messages": [
                    {"role": "system", "content": systems[n % GROUPS]},
                    {"role": "user", "content": rng.randbytes(60).hex()},
                ],
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        )
        for n in range(PROMPTS)
    ]


def body_message(body: bytes) -> bytes:
    message = ProcessingRequest()
    message.request_body.body = body
    message.request_body.end_of_stream = True
    message.metadata_context.SetInParent()
    return bytes(message.SerializeToString())


def log_message(served: str) -> bytes:
    """What Envoy's log tells of some requests at once."""
    message = StreamAccessLogsMessage()
    usage = TokenUsage()
    usage.input_tokens.value, usage.output_tokens.value, usage.input_token_details.cached_tokens.value = 300, 20, 200
    for number in range(LOGGED):
        entry = message.http_logs.log_entry.add()
        common = entry.common_properties
        metadata = common.metadata
        own = metadata.filter_metadata["infer-gateway"].fields
        own["key"].string_value = f"{number:016x}"
        own["admitted"].bool_value = True
        fields = metadata.filter_metadata["envoy.lb"].fields
        fields["x-gateway-destination-endpoint"].string_value = ",".join([served] * 5)
        fields["x-gateway-destination-endpoint-served"].string_value = served
        guard = metadata.filter_metadata["envoy.filters.http.rbac"].fields
        guard["enforced_effective_policy_id"].string_value = "picked"
        guard["enforced_engine_result"].string_value = "allowed"
        packed = metadata.typed_filter_metadata["envoy.ai.token_usage"]
        packed.type_url = f"type.googleapis.com/{wire.USAGE_TYPE}"
        packed.value = usage.SerializeToString()
        common.custom_tags["ttft-us"], common.custom_tags["stream-us"] = "101241", "404181"
        common.upstream_request_attempt_count = 1
        entry.response.response_code.value = 200
        entry.response.response_code_details = "via_upstream"
    return bytes(message.SerializeToString())


class CachedAuthenticator:
    """A token that was checked before: what remains is the digest and the look-up (bench/auth.py has the rest)."""

    def __init__(self) -> None:
        from hashlib import blake2b

        self._digest = blake2b
        self._known = {self._key(b"Bearer " + b"x" * 420): Identity("someone", "issuer", MappingProxyType({}))}

    def _key(self, value: bytes) -> bytes:
        return self._digest(value, digest_size=32).digest()

    def check(self, authorization: bytes | None, count: int, **_: object) -> Identity:
        assert authorization is not None
        assert count == 1
        return self._known[self._key(authorization)]


def per_call(call: Callable[[int], object], rounds: int) -> tuple[float, float]:
    """Minimum and median CPU µs of a call."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        for number in range(CALLS):
            call(number)
        times.append((time.process_time() - start) / CALLS * 1e6)
    return min(times), statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=8)
    parser.add_argument("--kib", type=int, default=1, help="size of a request's body")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()

    store = PodStore(3600.0)
    pods = [Pod(f"10.0.{n // 250}.{n % 250 + 1}:8000") for n in range(options.pods)]
    now = time.monotonic()
    store.set_pods(pods, now)
    for number, pod in enumerate(pods):
        sample = Sample(waiting=0.0, running=float(number % 4), kv_usage=0.2, ttft=0.1, tpot=0.01)
        store.observe(pod.address, sample, now)
    metrics = Metrics(list)
    profile, _ = build(SchedulerConfig(), in_tree_registry(), observe=metrics.plugin, clock=time.perf_counter)
    authenticator: Any = CachedAuthenticator()
    rng = random.Random(2)
    pipeline = Pipeline(
        router=Router({"default": Pool("default", store, profile)}, rng=rng),
        context=Context(metrics=metrics, ledger=Ledger(), clock=time.monotonic, wall_clock=time.time, rng=rng),
        authenticator=authenticator,
        decisions=DecisionLog(256),
        max_body=1 << 24,
        forward_token=False,
        identity_headers={},
    )  # fmt: skip

    raw = bodies(options.kib << 10)
    head, messages = header_message(), [body_message(one) for one in raw]
    told = log_message(pods[0].address)
    parsed = [parse(PATH, one) for one in raw]
    requests = [Request(model="bench", prompt=one.prompt) for one in parsed]
    index = profile.plugins["prefix-cache"].index
    hashes = [index.hasher.hashes("bench", one.prompt)[0] for one in parsed]
    value = destination(pods[:5])
    headers = Headers([(":method", b"POST"), (AUTHORIZATION, b"Bearer " + b"x" * 420)])
    outcome = Outcome(status=200, served=pods[0].address, attempts=1, ttft=0.1, stream=0.4)
    waiting: list[tuple[str, str]] = []

    def exchange(number: int) -> None:
        one = pipeline.open()
        for message in (head, messages[number % PROMPTS]):
            for reply in one.handle(wire.decode(message)):
                wire.encode(reply)
                if isinstance(reply, RequestBodyReply) and reply.tag is not None:
                    waiting.append((reply.tag.key, reply.mutation.destination.partition(",")[0]))
        one.close()
        if len(waiting) == LOGGED:
            for entry, (key, picked) in zip(wire.decode_log(told)[0], waiting, strict=True):
                pipeline.context.ledger.arrived(key, from_log(msgspec.structs.replace(entry, served=picked)), now)
            waiting.clear()

    for number in range(PROMPTS):
        exchange(number)
    stages: dict[str, Callable[[int], object]] = {
        "decode: headers": lambda _n: wire.decode(head),
        "decode: body": lambda n: wire.decode(messages[n % PROMPTS]),
        "decode: log, of one request": lambda n: None if n % LOGGED else wire.decode_log(told),
        "auth (cached verdict)": lambda _n: authenticator.check(headers.raw(AUTHORIZATION), 1, now=0.0),
        "parse (JSON, prompt text)": lambda n: parse(PATH, raw[n % PROMPTS]),
        "hash": lambda n: index.hasher.hashes("bench", parsed[n % PROMPTS].prompt),
        "match": lambda n: index.match(hashes[n % PROMPTS], store.snapshot(now)),
        "schedule, hash and match in it": lambda n: schedule(
            profile, requests[n % PROMPTS], store.snapshot(now), now=now, rng=rng
        ),
        "count in and out": lambda _n: store.acquire(pods[0], 100, now).release(now),
        "encode": lambda n: wire.encode(RequestBodyReply(Mutation(destination=value), None, Tag(f"{n:016x}"))),
        "metrics of an end": lambda _n: metrics.ended("bench", pods[0].address, outcome, 0.5, streamed=True),
        "the whole exchange": exchange,
    }
    how = "compiled" if compiled() else "not compiled"
    print(f"{options.pods} pods, {options.kib} KiB bodies; CPU µs, min / median of {options.rounds} rounds; {how}")
    for name, call in stages.items():
        least, median = per_call(call, options.rounds)
        print(f"  {name:32} {least:7.1f} / {median:7.1f}")


if __name__ == "__main__":
    main()
