"""Which file is meant, and its text."""

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from extproc.config.document import MAX_BYTES
from extproc.config.manifest import KEYS, choose, listing
from extproc.config.problems import Position, Problem, config_error
from extproc.config.units import describe, shorten
from extproc.errors import ConfigError

VARIABLE = "INFER_GATEWAY_CONFIG"
#: Where a ConfigMap is commonly mounted.
DEFAULT_DIRECTORY = Path("/etc/config")


class Text(NamedTuple):
    """The text of a configuration, and the file that it came from."""

    source: str
    text: str


def locate(path: str | None, env: Mapping[str, str], default: Path = DEFAULT_DIRECTORY) -> Text | None:
    """The text of the configuration that is meant: `path`, else the variable's, else the default directory's.

    None: nothing is named and there is no default directory. Raises ConfigError where what is meant cannot be had.
    """
    if path is not None:
        return _named(path, "--config")
    if VARIABLE in env:
        return _named(env[VARIABLE], VARIABLE)
    try:
        default.lstat()
    except FileNotFoundError:
        return None
    except OSError:
        pass  # the path exists: reading it shows the error
    return _read(default, "the default configuration directory")


def _named(path: str, by: str) -> Text:
    if not path.strip():
        raise ConfigError(f"{by} is set but empty: name a file or directory, or leave it unset")
    try:
        return _read(Path(path), f"named by {by}")
    except ValueError as error:
        # A zero byte, or characters that no file name can have.
        raise ConfigError(f"{by} is no path: {describe(path)}") from error


def _read(path: Path, origin: str) -> Text:
    try:
        return _from_directory(path) if path.is_dir() else _from_file(path)
    except OSError as error:
        # The cause first; the path may be a link to what is missing.
        missing = " (a ConfigMap that was never created?)" if error.errno == errno.ENOENT else ""
        at = error.filename or path
        raise ConfigError(f"{shorten(str(at), 200)}: {error.strerror or error}{missing}; {origin}") from error


def _from_file(path: Path) -> Text:
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES} bytes, which is all that a ConfigMap may hold")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        column = len(before.rpartition(b"\n")[2].decode()) + 1
        position = Position(before.count(b"\n") + 1, column)
        raise config_error(str(path), [Problem("not UTF-8 text", position=position)]) from None
    if not text.strip():
        raise ConfigError(f"{path}: the file is empty")
    return Text(str(path), text)


def _from_directory(path: Path) -> Text:
    # Kubernetes keeps the files in `..2026_01_02…`, which `..data` points to, beside a link to each of them.
    names = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith(".."))
    present = [key for key in KEYS if key in names]
    if not present:
        expected = f"{', '.join(KEYS[:-2:2])} or {KEYS[-2]}"
        raise ConfigError(f"{path}: no file {expected} (with or without .yaml) in this directory: {listing(names)}")
    found = {name: _from_file(path / name) for name in present}
    chosen = choose({name: text.text for name, text in found.items()})
    if len(chosen) > 1:
        raise ConfigError(f"{path}: {' and '.join(chosen)} are different documents; only one may be there")
    return found[chosen[0]]
