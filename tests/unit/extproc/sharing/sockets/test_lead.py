"""The lock on a real file."""

import asyncio
from pathlib import Path

import pytest
from support.eventually import PATIENCE

from extproc.sharing.sockets.lead import Lead


async def test_one_leads(tmp_path: Path) -> None:
    path = str(tmp_path / "x" / ".lead")
    first, second = Lead(path), Lead(path)
    await first.taken()
    waiting = asyncio.create_task(second.taken())
    await asyncio.sleep(0)
    assert not waiting.done()
    first.release()
    first.release()
    await asyncio.wait_for(waiting, PATIENCE)
    second.release()


async def test_what_keeps_it_from_leading_is_said_at_once_and_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lead = Lead(str(tmp_path / ".lead"), retry_after=0.0)
    (tmp_path / ".lead").mkdir()
    waiting = asyncio.create_task(lead.taken())

    def said() -> list[tuple[str, str]]:
        return [(record.message, vars(record)["detail"].partition("]")[0]) for record in caplog.records]

    for _ in range(5):
        await asyncio.sleep(0)
        assert said() == [("process cannot lead", "[Errno 21")]
    (tmp_path / ".lead").rmdir()
    (tmp_path / ".lead").symlink_to(tmp_path / "none" / "x")
    for _ in range(5):
        await asyncio.sleep(0)
        assert said()[1:] == [("process cannot lead", "[Errno 2")]
    (tmp_path / ".lead").unlink()
    await asyncio.wait_for(waiting, PATIENCE)
    lead.release()
