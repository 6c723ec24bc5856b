"""Prefill and decode apart, through the real Envoy: the decode pod is told who computes the prompt."""

from pathlib import Path

import aiohttp
import pytest
from support.echo import echo_pod
from support.eventually import PATIENCE
from support.foreign_envoy import full_duplex
from support.gateway import configuration

from extproc.demo.stack import Stack

pytestmark = pytest.mark.integration

LONG = "A prompt of some length. " * 100


@pytest.mark.parametrize("ours", [True, False], ids=["our own Envoy", "another gateway"])
async def test_the_decode_pod_is_told(tmp_path: Path, ours: bool) -> None:
    async with echo_pod() as prefill, echo_pod() as decode:
        document = f"""
disaggregation: {{thresholdTokens: 100}}
transport: {{mode: {"sidecar" if ours else "grpcio"}}}
endpoints:
  static:
  - {{address: "{prefill.address}", labels: {{llm-d.ai/role: prefill}}}}
  - {{address: "{decode.address}", labels: {{llm-d.ai/role: decode}}}}
"""
        transform = str if ours else full_duplex
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        async with (
            Stack(configuration(document, tmp_path), None, envoy_transform=transform) as stack,
            aiohttp.ClientSession(f"http://{stack.address}", timeout=timeout) as client,
        ):
            for prompt, told in ((LONG, prefill.address), ("Hi", None)):
                headers = {"x-prefiller-host-port": "169.254.169.254:80"}
                body = {"model": "m", "prompt": prompt}
                async with client.post("/v1/completions", json=body, headers=headers) as response:
                    assert response.status == 200
                assert decode.headers.get("x-prefiller-host-port") == told
        assert (prefill.requests, decode.requests) == (0, 2)
