import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from extproc.config import Loaded, load, loads
from extproc.config.reload import Watcher, changed, in_force
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
        self.waiting: tuple[str, ...] = ()
        path = str(self.volume.path)
        self.watcher = Watcher(path, {}, load(path, {}), self.apply, self.metrics)

    async def apply(self, loaded: Loaded) -> Sequence[str]:
        if self.broken:
            raise RuntimeError("cannot")
        self.applied.append(loaded)
        return self.waiting

    def on_disk(self) -> tuple[float, float]:
        """Whether what is on disk is wrong, and whether it waits."""
        value = self.metrics.registry.get_sample_value
        return value("infer_gateway_config_rejected") or 0.0, value("infer_gateway_config_pending") or 0.0

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


async def test_what_waits_for_a_restart_is_told_and_shown_until_it_is_taken_back(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    watched.waiting = ("listener",)
    watched.volume.put(f"{FIRST}listener: {{port: 9}}\n")
    for _ in range(3):
        await watched.watcher.look()
    (record,) = [one for one in caplog.records if one.message.startswith("configuration pending")]
    assert record.message == "configuration pending: these sections wait for a restart"
    assert vars(record)["sections"] == ("listener",)
    assert watched.count("pending")
    assert watched.on_disk() == (0.0, 1.0)
    watched.volume.put("no: such: text")
    await watched.watcher.look()
    assert watched.on_disk() == (1.0, 0.0)
    # Mended, and still waiting.
    watched.volume.put(f"# mended\n{FIRST}listener: {{port: 9}}\n")
    await watched.watcher.look()
    assert watched.on_disk() == (0.0, 1.0)
    watched.waiting = ()
    watched.volume.put(FIRST)
    await watched.watcher.look()
    assert watched.on_disk() == (0.0, 0.0)


def test_what_is_in_force_after_a_reload() -> None:
    started = loads(FIRST, "x").config
    new = loads(FIRST.replace("5", "6") + "listener: {port: 9}\nlogging: {level: debug}\n", "x").config
    config, waiting = in_force(started, new)
    assert waiting == ("listener",)
    assert changed(started, config) == ("scheduler", "logging")
    assert in_force(config, new) == (config, ("listener",))
    assert in_force(started, started) == (started, ())


def test_routes_wait_where_envoy_was_told_otherwise_or_pools_are_missing() -> None:
    base = "pools: {a: {}, b: {}}\nroutes: [{model: m, targets: [{pool: a}]}]\n"
    started = loads(base, "x").config
    assert in_force(started, loads(base.replace("pool: a", "pool: b"), "x").config)[1] == ()
    assert in_force(loads("{}", "x").config, loads("routes: [{model: m, targets: [{pool: default}]}]", "x").config)[
        1
    ] == ("routes",)
    assert in_force(started, loads(base.replace("targets", "rewriteAnswers: true, targets"), "x").config)[1] == (
        "routes",
    )
    more = base.replace("b: {}", "b: {}, c: {}").replace("pool: a", "pool: c")
    assert in_force(started, loads(more, "x").config)[1] == ("pools", "routes")
