"""`serve --reload` under traffic: the plugins change, what they remember stays."""

import asyncio
from pathlib import Path

import pytest
from support.eventually import eventually
from support.gateway import configuration, gateway

pytestmark = pytest.mark.integration

PREFIX = "A prefix that two requests share, before and after. " * 20


async def test_plugins_change_and_what_they_remember_stays(tmp_path: Path) -> None:
    plugins = "{Filter: {enabled: [least-request]}, Score: {enabled: [{name: prefix-cache}]}}"
    async with gateway(
        configuration(f"scheduler: {{plugins: {plugins}}}", tmp_path), serve_arguments=["--reload"]
    ) as running:
        first = await running.chat("one", system=PREFIX)
        path = running.stack.folder / "gateway.yaml"
        text = path.read_text()

        async def applied(result: str, count: int) -> bool:
            return await running.metric("infer_gateway_config_reloads_total") >= count

        load = asyncio.gather(*[running.chat(f"{n}", max_tokens=30) for n in range(60)])
        path.write_text(text.replace("- least-request\n", "- least-request\n      - prefix-affinity\n", 1))
        await eventually(lambda: applied("applied", 1))
        assert {answer.status for answer in await load} == {200}
        # The new filter reads what the old plugin recorded.
        second = await running.chat("two", system=PREFIX)
        assert second.pod == first.pod
        decision = (await running.stack.debug("/debug/decisions?limit=1"))["decisions"][0]
        assert decision["filtered"].keys() == {"least-request", "prefix-affinity"}

        path.write_text(text.replace("least-request", "least-requests", 1))
        await eventually(lambda: applied("rejected", 2))
        assert (await running.chat("three")).status == 200
        await eventually(running.idle)
