"""A process of several that hangs."""

import json
import os
import signal
from pathlib import Path

import pytest
from support.eventually import eventually
from support.gateway import Gateway, configuration, gateway

pytestmark = pytest.mark.integration


def last(running: Gateway, message: str, worker: str) -> int | None:
    """Process id of the last one that said this."""
    assert running.stack.sidecar is not None
    lines = [json.loads(line) for line in running.stack.sidecar.log if f'"message":"{message}"' in line]
    return next((line["pid"] for line in reversed(lines) if line["worker"] == worker), None)


async def test_one_that_hangs_is_started_again(tmp_path: Path) -> None:
    """Also where it is the one that scrapes: nobody else would as long as it is there."""
    async with gateway(configuration("transport: {standby: true}\n", tmp_path)) as running:
        assert running.stack.sidecar is not None
        (leads,) = (
            json.loads(line)["worker"] for line in running.stack.sidecar.log if '"message":"process leads"' in line
        )
        hangs = last(running, "process serving", leads)
        assert hangs is not None
        os.kill(hangs, signal.SIGSTOP)

        async def again() -> bool:
            return last(running, "process serving", leads) != hangs

        await eventually(again)
        assert (await running.chat()).status == 200

        async def scraped() -> bool:
            rows = (await running.stack.debug("/debug/endpoints"))["endpoints"]
            return all(row["scrape_age"] is not None and row["scrape_age"] < 1 for row in rows)

        await eventually(scraped)
