"""The configuration in force, as the supervisor hands it to a process: that on disk may be another one by now."""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace

import msgspec

from extproc.config import GatewayConfig, Loaded, loads
from extproc.config.loader import DEFAULTS, sized
from extproc.config.reload import in_force


class Given(msgspec.Struct, frozen=True):
    """Texts of configurations."""

    #: That the gateway was started with; None: it had none.
    started: str | None
    #: Where it came from.
    source: str
    #: That was put into force since, as far as that could be; None: none was.
    applied: str | None = None

    def memory(self) -> int:
        """A file in memory that has it, to be inherited and read by `take`. Close it. Raises OSError."""
        data = msgspec.json.encode(self)
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("configuration", os.MFD_CLOEXEC)
        else:  # not Linux
            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(data)
        return fd

    def loaded(self, env: Mapping[str, str]) -> Loaded:
        """What is in force. `env`: as of `load`.

        Raises:
            ConfigError: another version of this program wrote it.
        """
        loaded = Loaded(GatewayConfig(), DEFAULTS) if self.started is None else loads(self.started, self.source)
        loaded = sized(loaded, env)
        if self.applied is None:
            return loaded
        new = sized(loads(self.applied, self.source), env)
        config, waiting = in_force(loaded.config, new.config)
        # Where a part of it waits, it is not what is in force, and is to be looked into again.
        return replace(loaded, config=config, text=None if waiting else self.applied)


def take(fd: int) -> Given:
    """What stands in the file that was inherited as `fd`, which it closes. Raises OSError."""
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        return msgspec.json.decode(file.read(), type=Given)
