"""Writes to a disk that is full: by a limit on the size of files, which the kernel enforces as it does the disk's."""

import asyncio
import contextlib
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.eventually import eventually

from extproc.envoy.endpoints_file import EndpointsFile
from extproc.fleet.endpoints_writer import NOT_READY_AFTER, Content, EndpointsWriter
from scheduler.types import Pod

ONE, TWO = Pod("127.0.0.1:1"), Pod("127.0.0.1:2")


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process can grow."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


class World:
    def __init__(self, folder: Path) -> None:
        self.pods = [ONE]
        self.failures = 0
        self.path = folder / "endpoints.yaml"
        self.writer = EndpointsWriter(EndpointsFile(self.path), self._content, self._failed)

    def _content(self) -> Content:
        return self.pods, {}

    def _failed(self) -> None:
        self.failures += 1

    def files(self) -> list[str]:
        return [path.name for path in self.path.parent.iterdir()]

    def written(self, *pods: Pod) -> bool:
        return self.path.exists() and all(f'"port_value": {pod.address[-1]}' in self.path.read_text() for pod in pods)


async def test_what_could_not_be_written_is_written_when_the_disk_has_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    world = World(tmp_path)
    world.writer.changed()
    assert world.written(ONE)
    world.pods = [ONE, TWO]
    with full_disk():
        world.writer.changed()
        await eventually(lambda: world.failures >= 3)
        assert not world.written(TWO)
        assert world.writer.behind() > 0
        # No half of it takes what place there is.
        assert world.files() == ["endpoints.yaml"]
    # Nothing changes any more: it is tried again all the same.
    await eventually(lambda: world.written(ONE, TWO))
    assert world.writer.behind() == 0
    told = [record.message for record in caplog.records if "endpoints file" in record.message]
    assert told == ["endpoints file not written", "endpoints file is written again"]
    world.writer.stop()


async def test_readiness_ends_where_envoy_is_not_told_for_long(tmp_path: Path) -> None:
    now = 0.0
    loop = asyncio.get_running_loop()
    world = World(tmp_path)
    world.path.mkdir()  # a rename over a folder fails
    world.writer.changed()
    assert world.writer.not_ready() == ""
    now = loop.time()
    writer = EndpointsWriter(EndpointsFile(world.path), world._content, world._failed, clock=lambda: now)
    writer.changed()
    assert writer.not_ready() == ""
    now += NOT_READY_AFTER
    assert writer.not_ready() == "Envoy's endpoints cannot be written: Is a directory"
    assert world.files() == ["endpoints.yaml"]
    world.path.rmdir()
    await eventually(lambda: writer.not_ready() == "")
    world.writer.stop()


async def test_whatever_goes_wrong_it_is_tried_again(tmp_path: Path) -> None:
    """Not only what the system says: a fault of ours as well."""
    world = World(tmp_path)
    world.pods = [None]  # type: ignore[list-item]
    world.writer.changed()
    assert world.failures == 1
    world.pods = [ONE]
    await eventually(lambda: world.written(ONE))
