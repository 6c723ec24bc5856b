import logging
from pathlib import Path

import pytest

from extproc.config import Loaded, load
from extproc.config.reload import Watcher
from extproc.telemetry.metrics import Metrics

FIRST = "scheduler: {pluginConfig: [{name: least-request, args: {maxWaitingRequests: 5}}]}\n"


class Volume:
    """A ConfigMap volume as the kubelet keeps it: `..data` is a link that is switched."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "volume"
        self.path.mkdir()
        self._versions = 0
        (self.path / "gatewayConfiguration").symlink_to(Path("..data") / "gatewayConfiguration")

    def put(self, text: str) -> None:
        self._versions += 1
        version = self.path / f"..version_{self._versions}"
        version.mkdir()
        (version / "gatewayConfiguration").write_text(text)
        switch = self.path / "..data_tmp"
        switch.symlink_to(version.name)
        switch.replace(self.path / "..data")


class Watched:
    def __init__(self, folder: Path) -> None:
        self.volume = Volume(folder)
        self.volume.put(FIRST)
        self.applied: list[Loaded] = []
        self.metrics = Metrics(list)
        self.broken = False
        path = str(self.volume.path)
        self.watcher = Watcher(path, {}, load(path, {}), self.apply, self.metrics)

    async def apply(self, loaded: Loaded) -> None:
        if self.broken:
            raise RuntimeError("cannot")
        self.applied.append(loaded)

    def count(self, result: str) -> bool:
        return f'infer_gateway_config_reloads_total{{result="{result}"}} 1.0' in self.metrics.exposition().decode()


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


async def test_the_switch_of_the_link_is_seen_and_applied_once(watched: Watched) -> None:
    await watched.watcher.look()
    assert watched.applied == []
    watched.volume.put(FIRST.replace("5", "6"))
    await watched.watcher.look()
    await watched.watcher.look()
    (loaded,) = watched.applied
    assert loaded.config.scheduler.plugin_config[0].args == {"maxWaitingRequests": 6}
    assert watched.count("applied")


async def test_the_same_meaning_in_other_words_is_no_change(watched: Watched) -> None:
    watched.volume.put(f"# the same\n{FIRST}")
    await watched.watcher.look()
    assert watched.applied == []


async def test_a_wrong_one_is_told_once_and_changes_nothing(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    watched.volume.put(FIRST.replace("5", "-1"))
    with caplog.at_level(logging.ERROR):
        await watched.watcher.look()
        await watched.watcher.look()
    assert [record.message for record in caplog.records] == ["configuration rejected, the last good one stays"]
    assert watched.applied == []
    assert watched.count("rejected")
    # Back to what was: nothing to do.
    watched.volume.put(FIRST)
    await watched.watcher.look()
    assert watched.applied == []


async def test_one_that_cannot_be_applied_is_told(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    watched.broken = True
    watched.volume.put(FIRST.replace("5", "6"))
    await watched.watcher.look()
    assert "not applied" in caplog.records[-1].message
    assert watched.count("failed")


async def test_it_looks_again_and_again(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    naps = 0

    class Enough(Exception):
        pass

    async def sleep(_seconds: float) -> None:
        nonlocal naps
        naps += 1
        if naps == 2:
            watched.volume.put(FIRST.replace("5", "7"))
        if naps == 4:
            raise Enough

    path = str(watched.volume.path)
    watcher = Watcher(path, {}, load(path, {}), watched.apply, watched.metrics, sleep=sleep)
    with pytest.raises(Enough):
        await watcher.run()
    assert len(watched.applied) == 1
