from pathlib import Path

from extproc.envoy.files import beside, replace


def test_a_file_is_replaced_at_once_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    replace(path, "one")
    with path.open() as before:
        replace(path, "two")
        assert before.read() == "one"
    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]


def test_what_is_beside_is_not_yet_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert beside(path, "x").read_text() == "x"
    assert not path.exists()
