"""What operators and clients see while what says who the pods are is away, or cannot be written down: over real Envoy."""

import json
import resource
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import pytest
from support.eventually import eventually
from support.gateway import CHAT, MODEL, configuration

from extproc.demo.stack import Stack
from modelsim.server import EngineConfig, Profile, ReplicaConfig, serve

pytestmark = pytest.mark.integration

METRIC = 'infer_gateway_discovery_up{pool="default",source="'


def listing(path: Path, addresses: Sequence[str]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(list(addresses)))
    temporary.replace(path)


async def page(stack: Stack, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://{stack.admin}{path}") as response:
        return response.status, await response.text()


async def test_a_full_disk_and_a_source_that_is_away(tmp_path: Path) -> None:
    engine = EngineConfig(profile=Profile().faster(50))
    fleet = await serve([ReplicaConfig(name=f"pod-{n}", model=MODEL, engine=engine) for n in range(2)])
    first, second = fleet.addresses
    listed = tmp_path / "pods.json"
    listing(listed, [first])
    config = configuration(f"endpoints: {{file: {{path: {listed}, interval: 100ms}}}}", tmp_path)
    try:
        async with Stack(config, None) as stack, aiohttp.ClientSession(f"http://{stack.address}") as client:
            endpoints = Path(stack.config.envoy.endpoints_file)
            assert stack.sidecar is not None
            pid = stack.sidecar.process.pid

            # The pod that Envoy knows goes, another comes, and there is no room to say so.
            limits = resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            listing(listed, [second])
            await fleet.kill(0)

            async def not_ready() -> bool:
                return (await page(stack, "/readyz"))[0] == 503

            await eventually(not_ready)
            assert (await page(stack, "/readyz"))[1] == "Envoy's endpoints cannot be written: File too large\n"
            metrics = (await page(stack, "/metrics"))[1]
            assert "infer_gateway_endpoints_write_failures_total 0.0" not in metrics
            assert "infer_gateway_endpoints_behind_seconds 0.0" not in metrics
            assert second not in endpoints.read_text()  # noqa: ASYNC240 - a few bytes
            assert [path.name for path in endpoints.parent.iterdir()] == [endpoints.name]

            # Room again: nobody changes anything any more.
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)

            async def served() -> bool:
                body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
                async with client.post(CHAT, json=body) as response:
                    return response.status == 200 and response.headers["x-modelsim-replica"] == "pod-1"

            await eventually(served)

            async def ready() -> bool:
                return await page(stack, "/readyz") == (200, "ok\n")

            await eventually(ready)

            # The source goes: its pods stay, and people learn of it without an end to readiness.
            listed.unlink()

            async def told() -> bool:
                return (await page(stack, "/readyz"))[1] != "ok\n"

            await eventually(told)
            assert await page(stack, "/readyz") == (200, f"ok\nfile {listed}: No such file or directory\n")
            metrics = (await page(stack, "/metrics"))[1]
            assert f'{METRIC}file {listed}"}} 0.0' in metrics
            (row,) = (await stack.debug("/debug/endpoints"))["discovery"]
            assert (row["up"], row["reason"]) == (False, "not_found")
            assert row["failures"]["not_found"] >= 1
            summary = await stack.debug("/debug/summary")
            assert summary["discovery"][0]["error"] == "No such file or directory"
            assert await served()
            listing(listed, [second])
            await eventually(ready)
    finally:
        await fleet.stop()


async def test_with_a_standby_the_words_reach_the_one_page(tmp_path: Path) -> None:
    listed = tmp_path / "pods.json"
    listing(listed, ["127.0.0.1:9"])
    document = f"""
        endpoints: {{file: {{path: {listed}, interval: 100ms}}}}
        transport: {{standby: true}}
    """
    async with Stack(configuration(document, tmp_path), None) as stack:
        listed.write_text("no list")

        async def told() -> bool:
            return "Expected `array`" in (await page(stack, "/readyz"))[1]

        await eventually(told)
        (row,) = (await stack.debug("/debug/endpoints"))["discovery"]
        assert (row["up"], row["reason"]) == (False, "bad_answer")
        assert f'{METRIC}file {listed}"}} 0.0' in (await page(stack, "/metrics"))[1]
