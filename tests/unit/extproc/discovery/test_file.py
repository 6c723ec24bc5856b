import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.discovered import Published, running

from extproc.discovery.file import MAX_FILE, FileDiscovery, parse
from scheduler.types import Pod

LOGGER = "extproc.discovery.file"


class Naps:
    """Sleep that ends when the test says so."""

    def __init__(self) -> None:
        self._asleep, self._wake = asyncio.Event(), asyncio.Event()
        self.slept: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._asleep.set()
        await self._wake.wait()
        self._wake.clear()

    async def rest(self) -> None:
        await self._asleep.wait()

    async def again(self) -> None:
        self._asleep.clear()
        self._wake.set()
        await self.rest()


@asynccontextmanager
async def following(path: Path) -> AsyncIterator[tuple[FileDiscovery, Published, Naps]]:
    naps = Naps()
    source = FileDiscovery(path, 3.0, sleep=naps)
    async with running(source) as published:
        await naps.rest()
        yield source, published, naps


def test_yaml_and_json() -> None:
    expected = [Pod("10.0.0.2:80", "b", {"zone": "x"}), Pod("10.0.0.1:80"), Pod("[::1]:80", "c")]
    text = '- {address: "10.0.0.2:80", name: b, labels: {zone: x}}\n- 10.0.0.1:80\n- {address: "[::1]:80", name: c}'
    assert parse(text.encode()) == expected
    entries = [{"address": "10.0.0.2:80", "name": "b", "labels": {"zone": "x"}}, "10.0.0.1:80"]
    assert parse(json.dumps(entries).encode()) == expected[:2]
    assert parse(b"[]") == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expected `array`, got `null`"),
        ("pods: []", "Expected `array`, got `object`"),
        ('["10.0.0.1:80", 5]', r"Expected `str \| object`, got `int` - at `\$\[1\]`"),
        ("- 5", r"Expected `str \| object`, got `int` - at `\$\[0\]`"),
        ("- {name: a}", "missing required field `address`"),
        ("- {address: '10.0.0.1:80', lables: {}}", "unknown field `lables`"),
        ("- {address: '10.0.0.1:80', labels: {gpu: 1}}", r"Expected `str`, got `int` - at `\$\[0\].labels"),
        ("- 10.0.0.1:80\n- host:80", r"^\[1\]: must be an IP address"),
        ("- '[::1]:80'\n- '[0::1]:80'", r"^\[1\]: \[::1\]:80 is listed already"),
        ("- 'half", "found unexpected end of stream"),
        ("- !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("\x00", "not allowed"),
        ("#" + " " * MAX_FILE, f"larger than {MAX_FILE} bytes"),
        ("[" * 100_000, "recursion"),
        ("- " * 100_000, "recursion"),
    ],
)
def test_what_is_no_list_of_pods(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse(text.encode())


@given(st.binary(max_size=200))
def test_rubbish_is_one_error(data: bytes) -> None:
    with suppress(ValueError):
        parse(data)


async def test_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "pods.yaml"
    path.write_text("- 10.0.0.1:80")
    async with following(path) as (source, published, naps):
        assert source.first_sync.is_set()
        assert published.lists == [[Pod("10.0.0.1:80")]]
        await naps.again()
        # The same pods in other words are no news.
        path.write_text('["10.0.0.1:80"]')
        await naps.again()
        assert len(published.lists) == 1
        path.write_text("- 10.0.0.2:80\n- 10.0.0.1:80")
        await naps.again()
        assert published.addresses == ["10.0.0.2:80", "10.0.0.1:80"]
        # None is a list, too.
        path.write_text("[]")
        await naps.again()
        assert published.addresses == []
        assert naps.slept == [3.0] * 5


@pytest.mark.parametrize("broken", ["", "- {", "- host:80", None])
async def test_what_is_broken_takes_nothing_away(
    tmp_path: Path, broken: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    path = tmp_path / "pods.yaml"
    path.write_text("- 10.0.0.1:80")
    async with following(path) as (_, published, naps):
        for _ in range(2):
            if broken is None:
                path.unlink(missing_ok=True)
            else:
                path.write_text(broken)
            await naps.again()
            await naps.again()
        assert len(published.lists) == 1
        # With the same content as before it broke.
        path.write_text("- 10.0.0.1:80")
        await naps.again()
        assert len(published.lists) == 1
        assert len(caplog.records) == 2
        path.write_text("- 10.0.0.2:80")
        await naps.again()
        assert published.addresses == ["10.0.0.2:80"]
    lost, found = [record.message for record in caplog.records]
    assert lost.startswith(f"cannot read pods from {path}: ")
    assert lost.endswith("; keeping 1")
    assert found == f"{path} is read again: 1 pods"


async def test_a_file_that_is_not_there_yet(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "pods.yaml"
    async with following(path) as (source, published, naps):
        await naps.again()
        assert not source.first_sync.is_set()
        assert published.lists == []
        path.write_text("- {")
        await naps.again()
        assert not source.first_sync.is_set()
        path.write_text("- 10.0.0.1:80")
        await naps.again()
        assert source.first_sync.is_set()
        assert published.addresses == ["10.0.0.1:80"]
    missing, _broken = [record.message.split(": ")[1] for record in caplog.records]
    assert missing == "No such file or directory; keeping 0"


async def test_the_symbolic_link_of_a_volume(tmp_path: Path) -> None:
    """As a ConfigMap is mounted: the folder behind the link is swapped."""
    for name, address in (("one", "10.0.0.1:80"), ("two", "10.0.0.2:80")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pods.yaml").write_text(f"- {address}")
    link = tmp_path / "..data"
    link.symlink_to("one")
    async with following(link / "pods.yaml") as (_, published, naps):
        assert published.addresses == ["10.0.0.1:80"]
        (tmp_path / "new").symlink_to("two")
        (tmp_path / "new").replace(link)
        await naps.again()
        assert published.addresses == ["10.0.0.2:80"]


@pytest.mark.parametrize(
    "address", ["0.0.0.0:80", "224.0.0.1:80", "[ff02::1]:80", "127.0.0.1:9901", "169.254.169.254:80"]
)
def test_addresses_at_which_no_pod_may_be(address: str) -> None:
    with pytest.raises(ValueError, match=r"\[1\]: .* is "):
        parse(f'["10.0.0.1:80", "{address}"]'.encode(), local=False)


def test_addresses_of_this_machine_are_allowed_by_default() -> None:
    assert [pod.address for pod in parse(b'["127.0.0.1:80", "[fe80::1]:80"]')] == ["127.0.0.1:80", "[fe80::1]:80"]
    with pytest.raises(ValueError, match="not the address of a host"):
        parse(b'["0.0.0.0:80"]')
