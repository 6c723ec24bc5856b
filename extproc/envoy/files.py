"""Files that Envoy reads while they change: written beside, flushed, renamed. Envoy never reads half."""

import os
from pathlib import Path


def beside(path: Path, text: str) -> Path:
    """A complete file in the folder of `path`: a rename is only atomic within one file system. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        # On a full disk, half a file would take what little place there is.
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def replace(path: Path, text: str) -> None:
    """Makes `text` the content of `path`. Raises OSError."""
    temporary = beside(path, text)
    try:
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
