from pathlib import Path

import pytest

from extproc.config.document import MAX_BYTES
from extproc.config.locate import VARIABLE, locate
from extproc.errors import ConfigError

TEXT = "listener: {port: 8080}\n"


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    return tmp_path / "nowhere"


def refused(path: str | None, env: dict[str, str], default: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        locate(path, env, default)
    return str(caught.value)


def write(directory: Path, **files: str) -> Path:
    directory.mkdir(exist_ok=True)
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text)
    return directory


def test_the_option_comes_before_the_variable_and_both_before_the_default(tmp_path: Path) -> None:
    for name in ("option", "variable"):
        (tmp_path / name).write_text(f"{name}: 1")
    default = write(tmp_path / "default", gatewayConfiguration="default: 1")
    env = {VARIABLE: str(tmp_path / "variable")}
    found = [locate(str(tmp_path / "option"), env, default), locate(None, env, default), locate(None, {}, default)]
    assert [text.text for text in found if text] == ["option: 1", "variable: 1", "default: 1"]
    assert found[2] is not None
    assert found[2].source == str(default / "gatewayConfiguration")


def test_nothing_named_and_nothing_there(nowhere: Path) -> None:
    assert locate(None, {}, nowhere) is None


def test_a_default_that_is_there_and_wrong_is_a_mistake(tmp_path: Path) -> None:
    assert "it is empty" in refused(None, {}, write(tmp_path / "empty"))
    # Not the same as absent: somebody mounted something there.
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    assert "No such file" in refused(None, {}, tmp_path / "dangling")
    (tmp_path / "file").write_text("x")
    assert "Not a directory" in refused(None, {}, tmp_path / "file" / "config")


@pytest.mark.parametrize("path", ["", " "])
def test_an_empty_name_is_no_absence(path: str, nowhere: Path) -> None:
    assert refused(path, {}, nowhere).startswith("--config is set but empty")
    assert refused(None, {VARIABLE: path}, nowhere).startswith(f"{VARIABLE} is set but empty")


def test_named_and_missing(nowhere: Path) -> None:
    text = refused(str(nowhere), {}, nowhere)
    assert text == f"{nowhere}: No such file or directory (a ConfigMap that was never created?); named by --config"
    assert refused(None, {VARIABLE: str(nowhere)}, nowhere).endswith(f"named by {VARIABLE}")


@pytest.mark.parametrize("content", [b"", b" \n\n", b"\xef\xbb\xbf"])
def test_named_and_empty(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    assert refused(str(path), {}, tmp_path) == f"{path}: the file is empty"


def test_named_and_unreadable(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert "symbolic links" in refused(str(loop), {}, tmp_path)
    assert "name too long" in refused("/x" * 4000, {}, tmp_path)
    for name in ("\0", "\ud800"):
        assert refused(name, {}, tmp_path).startswith("--config is no path")


def test_what_is_not_text_is_shown_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes("a: 1\nü: ".encode() + b"\xff")
    assert refused(str(path), {}, tmp_path) == f"{path}:2:4: not UTF-8 text"


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    found = locate(str(path), {}, tmp_path)
    assert found is not None
    assert found.text == TEXT


def test_size_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"#" * MAX_BYTES)
    assert locate(str(path), {}, tmp_path)
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    assert f"larger than {MAX_BYTES} bytes" in refused(str(path), {}, tmp_path)
    assert "larger than" in refused("/dev/zero", {}, tmp_path)


@pytest.mark.parametrize("name", ["gatewayConfiguration", "schedulerConfiguration", "routerConfiguration"])
@pytest.mark.parametrize("suffix", ["", "__yaml"])
def test_every_name_in_a_directory(tmp_path: Path, name: str, suffix: str) -> None:
    directory = write(tmp_path, **{name + suffix: TEXT, "README": "hello"})
    found = locate(str(directory), {}, tmp_path)
    assert found is not None
    assert found.source == str(directory / (name + suffix.replace("__", ".")))


def mount(directory: Path, *names: str) -> Path:
    """A ConfigMap volume as Kubernetes lays it out."""
    data = write(directory / "..2026_01_02_03_04_05.123456789", **dict.fromkeys(names, TEXT))
    (directory / "..data").symlink_to(data.name)
    for name in names:
        (directory / name).symlink_to(f"..data/{name}")
    return directory


def test_a_volume_as_kubernetes_mounts_it(tmp_path: Path) -> None:
    directory = mount(tmp_path, "gatewayConfiguration")
    found = locate(str(directory), {}, tmp_path)
    assert found is not None
    assert found.text == TEXT
    assert found.source == str(directory / "gatewayConfiguration")


def test_the_volumes_own_entries_are_not_listed(tmp_path: Path) -> None:
    text = refused(str(mount(tmp_path, "other")), {}, tmp_path)
    assert text.endswith("(with or without .yaml) in this directory: it holds other")


def test_a_directory_without_a_configuration_lists_what_it_has(tmp_path: Path) -> None:
    text = refused(str(write(tmp_path, a="", gatewayconfiguration__yml="")), {}, tmp_path)
    assert "gatewayConfiguration, schedulerConfiguration or routerConfiguration (with or without .yaml)" in text
    assert text.endswith('it holds a, gatewayconfiguration.yml (did you mean "gatewayConfiguration.yaml"?)')


def test_two_documents_in_a_directory(tmp_path: Path) -> None:
    directory = write(tmp_path, gatewayConfiguration=TEXT, schedulerConfiguration__yaml="plugins: {}")
    assert refused(str(directory), {}, tmp_path) == (
        f"{directory}: gatewayConfiguration and schedulerConfiguration.yaml are different documents;"
        " only one may be there"
    )
    write(tmp_path, schedulerConfiguration__yaml=TEXT.rstrip())
    assert locate(str(directory), {}, tmp_path)


def test_a_directory_in_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "gatewayConfiguration").mkdir()
    assert refused(str(tmp_path), {}, tmp_path).startswith(f"{tmp_path}/gatewayConfiguration: Is a directory")
