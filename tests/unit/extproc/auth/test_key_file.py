import logging
from pathlib import Path

import pytest
from support.eventually import eventually

from extproc.auth.apikeys import hashed
from extproc.auth.key_file import ApiKeyFile


async def until(file: ApiKeyFile, count: int) -> None:
    await eventually(lambda: file.keys is not None and len(file.keys) == count)


def text(*names: str) -> str:
    return "keys:\n" + "".join(f"- {{name: {name}, hash: {hashed(name)}}}\n" for name in names)


async def test_the_keys_of_a_file_that_is_there_are_ready_at_once(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(text("a", "b"))
    file = ApiKeyFile(str(path), poll=3600.0)
    await file.start()
    try:
        assert file.ready
        assert file.keys is not None
        assert len(file.keys) == 2
    finally:
        await file.stop()


async def test_a_changed_file_is_read_again_and_a_mistake_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.yaml"
    file = ApiKeyFile(str(path), poll=0.001)
    with caplog.at_level(logging.INFO):
        await file.start()
        try:
            assert not file.ready
            for names in (("a",), ("a", "b"), ("b",)):
                path.write_text(text(*names))
                await until(file, len(names))
                assert file.ready
            kept = file.keys
            path.write_text("keys: [{name: secret}]")
            await eventually(lambda: sum("stay as they were" in record.message for record in caplog.records) >= 2)
            path.unlink()
            await eventually(lambda: sum("stay as they were" in record.message for record in caplog.records) >= 3)
            assert file.keys is kept
            # Each cause is said once, however often it is met.
            assert sum("stay as they were" in record.message for record in caplog.records) == 3
        finally:
            await file.stop()
            await file.stop()
