import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import ClientSession
from prometheus_client.parser import text_string_to_metric_families
from support.eventually import PATIENCE

from modelsim.faults import Faults
from modelsim.filler import text
from modelsim.profile import EngineConfig, Profile
from modelsim.server import Fleet, ReplicaConfig, serve
from modelsim.service import HUGE_PAGE, MAX_BODY

Until = Callable[[Callable[[], bool]], Awaitable[None]]

#: Answers at once.
FREE = Profile(overhead=0, per_prompt_token=0, inter_token=0, per_sequence=0, adapter_load=0)
#: Answers never, as far as a test is concerned.
STUCK = Profile(overhead=3600)
#: First token at once, the second never.
SLOW = Profile(overhead=0, per_prompt_token=0, inter_token=3600, per_sequence=0)

CHAT = {"messages": [{"role": "user", "content": "hello"}]}

PATHS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"prompt": "hello"},
    "/v1/embeddings": {"input": "hello"},
    "/v1/messages": CHAT,
    "/v1/responses": {"input": "hello"},
}
STREAMING = sorted(PATHS.keys() - {"/v1/embeddings"})


def config(profile: Profile, **limits: int) -> ReplicaConfig:
    engine = EngineConfig(profile=profile, max_loras=2, **limits)
    return ReplicaConfig(name="pod-a", model="base", adapters=("sql",), engine=engine)


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    """Free, stuck and slow."""
    async with await serve([config(FREE), config(STUCK), config(SLOW)]) as fleet:
        yield fleet


@pytest.fixture
def url(fleet: Fleet) -> str:
    return f"http://{fleet.addresses[0]}"


async def post(client: ClientSession, url: str, body: object) -> tuple[int, Any]:
    async with client.post(
        url, data=io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
    ) as response:
        assert response.headers["x-modelsim-replica"] == "pod-a"
        return response.status, await response.json()


async def scrape(client: ClientSession, url: str) -> dict[str, float]:
    """Samples that have no labels but the usual ones, and those of finished requests by reason."""
    async with client.get(f"{url}/metrics") as response:
        assert response.status == 200
        page = await response.text()
    samples = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if set(sample.labels) <= {"engine", "model_name"}:
                samples[sample.name] = sample.value
            elif "finished_reason" in sample.labels:
                samples[sample.labels["finished_reason"]] = sample.value
    return samples


@pytest.mark.parametrize("path", PATHS)
async def test_unary(client: ClientSession, url: str, path: str) -> None:
    async with client.post(url + path, json={**PATHS[path], "max_tokens": 5}) as response:
        assert response.status == 200
        assert response.content_type == "application/json"
        assert response.headers["x-modelsim-replica"] == "pod-a"
        assert (await response.json())["model"] == "base"


@pytest.mark.parametrize("path", STREAMING)
async def test_stream(client: ClientSession, url: str, fleet: Fleet, path: str) -> None:
    async with client.post(url + path, json={**PATHS[path], "stream": True}) as response:
        assert response.status == 200
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["x-modelsim-replica"] == "pod-a"
        wire = await response.text()
    assert wire.endswith("\n\n")
    assert "filler." in wire
    assert fleet.replicas[0].requests_served == 1


async def test_a_stream_says_the_same_as_the_whole_answer(client: ClientSession, url: str) -> None:
    _, whole = await post(client, f"{url}/v1/chat/completions", {**CHAT, "max_tokens": 30})
    body = {**CHAT, "max_tokens": 30, "stream": True, "stream_options": {"include_usage": True}}
    async with client.post(f"{url}/v1/chat/completions", json=body) as response:
        lines = (await response.text()).split("\n\n")
    *chunks, usage = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    assert lines[-2:] == ["data: [DONE]", ""]
    assert len(chunks) == 31
    content = "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks)
    assert content == whole["choices"][0]["message"]["content"] == text(30)
    assert (
        usage["usage"]
        == whole["usage"]
        == {
            "prompt_tokens": 3,
            "total_tokens": 33,
            "completion_tokens": 30,
            "prompt_tokens_details": {"cached_tokens": 0},
        }
    )


async def test_without_a_limit_an_answer_has_64_tokens(client: ClientSession, url: str) -> None:
    _, answer = await post(client, f"{url}/v1/completions", {"prompt": "hello"})
    assert answer["usage"]["completion_tokens"] == 64
    assert answer["choices"][0]["finish_reason"] == "stop"


async def test_a_repeated_prompt_is_cached(client: ClientSession, url: str) -> None:
    body = {"prompt": "x" * 640}
    cached = [
        (await post(client, f"{url}/v1/completions", body))[1]["usage"]["prompt_tokens_details"]["cached_tokens"]
        for _ in range(2)
    ]
    assert cached == [0, 144]
    samples = await scrape(client, url)
    assert samples["vllm:prefix_cache_queries_total"] == 320
    assert samples["vllm:prefix_cache_hits_total"] == 144


async def test_models(client: ClientSession, url: str) -> None:
    async with client.get(f"{url}/v1/models") as response:
        models = (await response.json())["data"]
    assert [(model["id"], model["parent"]) for model in models] == [("base", None), ("sql", "base")]


async def test_health(client: ClientSession, url: str) -> None:
    async with client.get(f"{url}/health") as response:
        assert (response.status, await response.read()) == (200, b"")
        assert response.headers["x-modelsim-replica"] == "pod-a"


async def test_connections_are_kept(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for _ in range(3):
        writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b"[]", b'"text"'])
async def test_a_body_that_is_no_json_object(client: ClientSession, url: str, fleet: Fleet, body: bytes) -> None:
    status, answer = await post(client, f"{url}/v1/chat/completions", body)
    assert (status, answer["error"]["code"]) == (400, "invalid_json")
    assert answer["error"].keys() == {"message", "type", "code", "param"}
    assert (fleet.replicas[0].requests_received, fleet.replicas[0].requests_served) == (1, 0)


async def test_a_bad_request_names_the_parameter(client: ClientSession, url: str) -> None:
    status, answer = await post(client, f"{url}/v1/completions", {"prompt": "x", "max_tokens": 0})
    assert (status, answer["error"]["param"]) == (400, "max_tokens")


async def test_an_unknown_model(client: ClientSession, url: str) -> None:
    status, answer = await post(client, f"{url}/v1/chat/completions", {**CHAT, "model": "other"})
    assert (status, answer["error"]["code"]) == (404, "model_not_found")


async def test_a_prompt_that_is_too_long(client: ClientSession, url: str) -> None:
    status, answer = await post(client, f"{url}/v1/completions", {"prompt": "x" * 131_072 * 4})
    assert (status, answer["error"]["code"]) == (400, "context_length_exceeded")


async def test_paths_and_methods_that_are_not_served(client: ClientSession, url: str) -> None:
    status, answer = await post(client, f"{url}/v1/other", {})
    assert (status, answer["error"]["code"]) == (404, "http_error")
    status, answer = await post(client, f"{url}/health", {})
    assert status == 405


async def test_bodies_up_to_the_limit(client: ClientSession, url: str) -> None:
    frame = b'{"prompt": "x", "padding": "%s"}'
    padding = b"x" * (MAX_BODY - len(frame) + 2)
    status, _ = await post(client, f"{url}/v1/completions", frame % padding)
    assert status == 200
    status, answer = await post(client, f"{url}/v1/completions", frame % (padding + b"x"))
    assert (status, answer["error"]["type"]) == (413, "invalid_request_error")


async def test_the_page_counts_what_was_served(client: ClientSession, url: str, fleet: Fleet) -> None:
    for _ in range(3):
        await post(client, f"{url}/v1/completions", {"prompt": "hello you", "max_tokens": 5})
    samples = await scrape(client, url)
    assert samples["vllm:prompt_tokens_total"] == 9
    assert samples["vllm:generation_tokens_total"] == 15
    assert samples["vllm:time_to_first_token_seconds_count"] == 3
    assert samples["vllm:inter_token_latency_seconds_count"] == 12
    assert samples["vllm:num_requests_running"] == 0
    assert (samples["length"], samples["stop"], samples["abort"]) == (3, 0, 0)
    assert fleet.replicas[0].requests_served == 3


async def test_tokens_are_streamed_as_they_come(client: ClientSession, fleet: Fleet) -> None:
    slow = f"http://{fleet.addresses[2]}"
    async with client.post(f"{slow}/v1/completions", json={"prompt": "x", "stream": True}) as response:
        assert b'"text":"The"' in await response.content.readuntil(b"\n\n")
        assert (await scrape(client, slow))["vllm:generation_tokens_total"] == 1
        response.close()


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("replica", [1, 2])
async def test_a_client_that_leaves_frees_its_request(
    client: ClientSession, fleet: Fleet, until: Until, replica: int, stream: bool
) -> None:
    url = f"http://{fleet.addresses[replica]}"
    engine = fleet.replicas[replica].engine
    task = asyncio.create_task(post(client, f"{url}/v1/completions", {"prompt": "x" * 100, "stream": stream}))
    await until(lambda: engine.running == 1)
    assert (await scrape(client, url))["vllm:num_requests_running"] == 1
    assert engine.kv_usage > 0
    task.cancel()
    await until(lambda: engine.running == 0)
    assert engine.kv_usage == 0
    samples = await scrape(client, url)
    assert (samples["vllm:num_requests_running"], samples["abort"]) == (0, 1)
    assert fleet.replicas[replica].requests_served == 0


async def test_headers_of_a_stream_come_before_its_first_token(client: ClientSession, fleet: Fleet) -> None:
    stuck = f"http://{fleet.addresses[1]}/v1/responses"
    async with client.post(stuck, json={"input": "x", "stream": True}) as response:
        assert response.status == 200
        assert (await response.content.readline()) == b"event: response.created\n"
        response.close()


async def test_an_adapter_is_loaded_used_and_unloaded(client: ClientSession, url: str, fleet: Fleet) -> None:
    ask = {**CHAT, "model": "law"}
    assert (await post(client, f"{url}/v1/chat/completions", ask))[0] == 404
    async with client.post(f"{url}/v1/load_lora_adapter", json={"lora_name": "law", "lora_path": "/l"}) as response:
        assert response.status == 200
    status, answer = await post(client, f"{url}/v1/chat/completions", ask)
    assert (status, answer["model"]) == (200, "law")
    assert fleet.replicas[0].engine.lora_slots.loaded == ("law",)
    async with client.post(f"{url}/v1/unload_lora_adapter", json={"lora_name": "law"}) as response:
        assert response.status == 200
    assert (await post(client, f"{url}/v1/chat/completions", ask))[0] == 404


async def test_the_page_tells_running_and_waiting_adapters(client: ClientSession, fleet: Fleet, until: Until) -> None:
    url = f"http://{fleet.addresses[1]}"
    engine = fleet.replicas[1].engine
    tasks = []
    for name in ("law", "med"):
        async with client.post(f"{url}/v1/load_lora_adapter", json={"lora_name": name, "lora_path": "p"}):
            pass
    for name in ("sql", "law", "med"):
        tasks.append(asyncio.create_task(post(client, f"{url}/v1/chat/completions", {**CHAT, "model": name})))
        await until(lambda: engine.running + engine.waiting == len(tasks))
    async with client.get(f"{url}/metrics") as response:
        families = {family.name: family for family in text_string_to_metric_families(await response.text())}
    latest = max(families["vllm:lora_requests_info"].samples, key=lambda sample: sample.value)
    assert latest.labels == {
        "max_lora": "2",
        "running_lora_adapters": "sql,law",
        "waiting_lora_adapters": "med",
    }
    for task in tasks:
        task.cancel()


@pytest.mark.parametrize(
    ("action", "body", "status"),
    [
        ("load", {}, 400),
        ("load", {"lora_name": "x"}, 400),
        ("load", {"lora_name": 3, "lora_path": "p"}, 400),
        ("load", {"lora_name": "sql", "lora_path": "p"}, 400),
        ("load", {"lora_name": "base", "lora_path": "p"}, 400),
        ("unload", {}, 400),
        ("unload", {"lora_name": "x"}, 404),
    ],
)
async def test_adapters_that_cannot_be(client: ClientSession, url: str, action: str, body: object, status: int) -> None:
    found, answer = await post(client, f"{url}/v1/{action}_lora_adapter", body)
    assert (found, answer["error"]["param"]) == (status, "lora_name")


async def test_a_server_without_slots_loads_nothing(client: ClientSession) -> None:
    async with await serve([ReplicaConfig(name="pod-a", engine=EngineConfig(max_loras=0))]) as fleet:
        url = f"http://{fleet.addresses[0]}/v1/load_lora_adapter"
        assert (await post(client, url, {"lora_name": "x", "lora_path": "p"}))[0] == 400


async def test_faults_are_changed_at_run_time(client: ClientSession, url: str, fleet: Fleet) -> None:
    status, answer = await post(client, f"{url}/faults", {"error_rate": 0.5, "status": 429})
    assert status == 200
    assert answer["error_rate"] == 0.5
    async with client.get(f"{url}/faults") as response:
        assert await response.json() == answer
    for _ in range(2):
        statuses = [(await post(client, f"{url}/v1/chat/completions", CHAT))[0] for _ in range(4)]
        assert statuses == [200, 429, 200, 429]
    await post(client, f"{url}/faults", {})
    assert fleet.replicas[0].faults == Faults()
    assert (await post(client, f"{url}/v1/chat/completions", CHAT))[0] == 200
    assert (fleet.replicas[0].requests_received, fleet.replicas[0].requests_served) == (9, 5)


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b'{"error_rate": 2}', b'{"odd": 1}', b'{"metrics": "odd"}'])
async def test_bad_faults_change_nothing(client: ClientSession, url: str, fleet: Fleet, body: bytes) -> None:
    fleet.replicas[0].faults = Faults(status=500)
    status, answer = await post(client, f"{url}/faults", body)
    assert (status, answer["error"]["code"]) == (400, "invalid_faults")
    assert fleet.replicas[0].faults == Faults(status=500)


async def test_bad_faults_from_python(fleet: Fleet) -> None:
    with pytest.raises(msgspec.ValidationError):
        fleet.replicas[0].faults = Faults(status=200)
    assert fleet.replicas[0].faults == Faults()


async def test_an_injected_error_is_in_the_usual_shape(client: ClientSession, url: str, fleet: Fleet) -> None:
    fleet.replicas[0].faults = Faults(error_rate=1)
    status, answer = await post(client, f"{url}/v1/chat/completions", CHAT)
    assert status == 503
    assert (answer["error"]["type"], answer["error"]["code"]) == ("server_error", "injected_fault")


async def test_hang(client: ClientSession, url: str, fleet: Fleet, until: Until) -> None:
    replica = fleet.replicas[0]
    replica.faults = Faults(hang=True)
    task = asyncio.create_task(post(client, f"{url}/v1/chat/completions", CHAT))
    await until(lambda: replica.requests_received == 1)
    # The rest of the server answers meanwhile, often enough for an answer to have come if there was one.
    for _ in range(5):
        assert (await scrape(client, url))["vllm:prefix_cache_queries_total"] == 0
    assert not task.done()
    task.cancel()


@pytest.mark.parametrize("faults", [Faults(crash_after_tokens=3), Faults(crash_after_tokens=3, token_delay=0)])
async def test_crash_in_the_middle_of_a_stream(
    client: ClientSession, url: str, fleet: Fleet, until: Until, faults: Faults
) -> None:
    replica = fleet.replicas[0]
    replica.faults = faults
    received = bytearray()

    async def read(response: aiohttp.ClientResponse) -> None:
        async for chunk in response.content.iter_any():
            received.extend(chunk)

    async with client.post(f"{url}/v1/completions", json={"prompt": "x", "stream": True}) as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await read(response)
    assert received.count(b"data: ") == 3
    assert b"[DONE]" not in received
    assert replica.requests_served == 0
    await until(lambda: replica.engine.running == 0)


@pytest.mark.parametrize("tokens", [0, 3, 64])
async def test_crash_instead_of_a_whole_answer(client: ClientSession, url: str, fleet: Fleet, tokens: int) -> None:
    fleet.replicas[0].faults = Faults(crash_after_tokens=tokens)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await post(client, f"{url}/v1/chat/completions", CHAT)
    assert fleet.replicas[0].requests_served == 0


async def test_crash_before_the_first_token_of_a_stream(client: ClientSession, url: str, fleet: Fleet) -> None:
    fleet.replicas[0].faults = Faults(crash_after_tokens=0)
    async with client.post(f"{url}/v1/completions", json={"prompt": "x", "stream": True}) as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


@pytest.mark.parametrize("stream", [True, False])
async def test_a_shorter_answer_does_not_crash(client: ClientSession, url: str, fleet: Fleet, stream: bool) -> None:
    fleet.replicas[0].faults = Faults(crash_after_tokens=6)
    body = {"prompt": "x", "max_tokens": 5, "stream": stream}
    async with client.post(f"{url}/v1/completions", json=body) as response:
        assert (await response.text()).rstrip().endswith("[DONE]" if stream else "}")
    assert fleet.replicas[0].requests_served == 1


async def test_delays_are_exact_and_bypass_the_engine(client: ClientSession, fleet: Fleet) -> None:
    """On the stuck replica, whose engine would take an hour."""
    fleet.replicas[1].faults = Faults(first_token_delay=0.05, token_delay=0.01)
    url = f"http://{fleet.addresses[1]}"
    loop = asyncio.get_running_loop()
    start = loop.time()
    body = {"prompt": "x" * 100, "max_tokens": 4, "stream": True, "stream_options": {"include_usage": True}}
    async with client.post(f"{url}/v1/completions", json=body) as response:
        await response.content.readuntil(b"\n\n")
        assert loop.time() - start >= 0.05
        rest = await response.text()
        assert loop.time() - start >= 0.08
    assert '"completion_tokens":4' in rest
    assert '"prompt_tokens":25' in rest
    samples = await scrape(client, url)
    assert samples["vllm:time_to_first_token_seconds_sum"] == pytest.approx(0.05)
    assert samples["vllm:inter_token_latency_seconds_sum"] == pytest.approx(0.03)
    assert samples["vllm:generation_tokens_total"] == 4
    assert samples["vllm:num_requests_running"] == 0
    assert samples["vllm:prefix_cache_queries_total"] == 0


async def test_scripted_answers_count_as_running(client: ClientSession, url: str, fleet: Fleet, until: Until) -> None:
    fleet.replicas[0].faults = Faults(first_token_delay=3600)
    task = asyncio.create_task(post(client, f"{url}/v1/completions", {"prompt": "x"}))
    await until(lambda: fleet.replicas[0].requests_received == 1)
    async with asyncio.timeout(PATIENCE):
        while (await scrape(client, url))["vllm:num_requests_running"] == 0:
            pass
        task.cancel()
        while (await scrape(client, url))["vllm:num_requests_running"] == 1:
            pass


@pytest.mark.parametrize("path", PATHS)
async def test_scripted_answers_of_all_apis(client: ClientSession, url: str, fleet: Fleet, path: str) -> None:
    fleet.replicas[0].faults = Faults(first_token_delay=0)
    assert (await post(client, url + path, PATHS[path]))[0] == 200


async def test_a_metrics_page_that_fails(client: ClientSession, url: str, fleet: Fleet) -> None:
    fleet.replicas[0].faults = Faults(metrics="500")
    async with client.get(f"{url}/metrics") as response:
        assert response.status == 500


async def test_a_metrics_page_that_is_html(client: ClientSession, url: str, fleet: Fleet) -> None:
    fleet.replicas[0].faults = Faults(metrics="html")
    async with client.get(f"{url}/metrics") as response:
        assert (response.status, response.content_type) == (200, "text/html")


async def test_a_metrics_page_that_is_huge(client: ClientSession, url: str, fleet: Fleet) -> None:
    fleet.replicas[0].faults = Faults(metrics="huge")
    size = 0
    async with client.get(f"{url}/metrics") as response:
        async for chunk in response.content.iter_any():
            size += len(chunk)
    assert size >= HUGE_PAGE


async def test_a_reader_may_leave_a_huge_page(client: ClientSession, url: str, fleet: Fleet) -> None:
    fleet.replicas[0].faults = Faults(metrics="huge")
    async with client.get(f"{url}/metrics") as response:
        assert (await response.content.readline()).startswith(b"vllm:padding")
        response.close()
    fleet.replicas[0].faults = Faults()
    assert await scrape(client, url)


async def test_a_metrics_page_that_hangs(client: ClientSession, url: str, fleet: Fleet) -> None:
    fleet.replicas[0].faults = Faults(metrics="hang")
    task = asyncio.create_task(scrape(client, url))
    for _ in range(5):
        assert (await post(client, f"{url}/v1/chat/completions", CHAT))[0] == 200
    assert not task.done()
    task.cancel()
