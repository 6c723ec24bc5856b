"""A listening Unix socket that is taken over, and given up, without a moment in which its path leads nowhere.

A sidecar that is restarted finds the old one's socket, perhaps still in use by it while it drains. The new socket is
made beside it and renamed over it: a client gets the old or the new sidecar. The old one, when it goes, removes
the path only if it still leads to its own socket.
"""

import contextlib
import os
import socket
import stat
from pathlib import Path
from typing import Final

#: Connections that wait to be accepted: a gateway's worker threads, which all connect at once after a restart.
BACKLOG = 128

#: What the address of a Unix socket begins with; its absolute path follows.
UNIX: Final = "unix://"


class UnixListener:
    """Bound to `path` and listening from the start. Nobody but this user (and root) may connect.

    Raises:
        OSError: the path cannot be bound, or is something else than a socket.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise FileExistsError(f"cannot listen on {path}: it is there, and is no socket")
        made = path.with_name(f".{path.name}.{os.getpid()}")
        made.unlink(missing_ok=True)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            try:
                self.socket.bind(str(made))
            except OSError as error:
                # The system's message names no path, and a path too long is the common mistake.
                raise OSError(error.errno, f"cannot listen on {path}: {error}") from error
            # Envoy runs as the same user; no other user may decide, or see, what this socket carries.
            made.chmod(0o600)
            self.socket.listen(BACKLOG)
            self._identity = _identity(made)
            made.replace(path)
        except BaseException:
            self.socket.close()
            made.unlink(missing_ok=True)
            raise
        self.socket.setblocking(False)

    def close(self) -> None:
        """Stops listening, and removes the path if it is still this socket's. Further calls do nothing."""
        self.socket.close()
        with contextlib.suppress(FileNotFoundError):
            if _identity(self.path) == self._identity:
                self.path.unlink()


def _identity(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino
