from pathlib import Path

import pytest

from extproc.process.files import replace_file


def test_the_file_is_replaced_and_its_folder_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    replace_file(path, "one é")
    replace_file(path, "two")
    assert path.read_text(encoding="utf-8") == "two"
    assert [one.name for one in path.parent.iterdir()] == ["file"]


def test_a_reader_keeps_what_it_opened(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(path, "old")
    with path.open() as reader:
        replace_file(path, "new and longer")
        assert reader.read() == "old"


def test_a_failure_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="irectory"):
        replace_file(folder, "text")
    assert [one.name for one in tmp_path.iterdir()] == ["folder"]


def test_a_text_that_cannot_be_encoded_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        replace_file(tmp_path / "file", "\ud800")
    assert not list(tmp_path.iterdir())
