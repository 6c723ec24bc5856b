"""Envoy takes the bootstrap that is rendered for it."""

import asyncio
import sys
from pathlib import Path

import pytest

from extproc.config import loads
from extproc.demo.stack import envoy_binary
from extproc.envoy.bootstrap import render

AUTH = """
auth:
  issuer: i
  jwksUri: https://issuer.example/keys
  identityHeaders: {X-User: sub}
"""
LISTENER = """
listener:
  headersWithUnderscores: forward
  cors: {origins: ["https://a.test", "https://*.b.test", "*"], credentials: false}
  paths: ["/v1/*", "/health"]
"""


@pytest.mark.parametrize("document", ["", AUTH, AUTH + LISTENER], ids=["open", "auth", "listener"])
async def test_envoy_takes_it(document: str, tmp_path: Path) -> None:
    assert sys.platform == "linux"
    path = tmp_path / "envoy.yaml"
    config = loads(document or "{}", "test").config
    endpoints = tmp_path / "endpoints.yaml"
    endpoints.write_text("resources: []\n")
    envoy = config.envoy.model_copy(update={"endpoints_file": str(endpoints), "admin_socket": str(tmp_path / "a.sock")})
    path.write_text(render(config.model_copy(update={"envoy": envoy})))
    process = await asyncio.create_subprocess_exec(
        envoy_binary(), "--mode", "validate", "-c", str(path), "--log-level", "error",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await process.communicate()
    assert process.returncode == 0, said.decode()
