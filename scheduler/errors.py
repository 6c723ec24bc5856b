"""Errors of scheduling.

SchedulingError          no pod for this request; the pool's fault, not the client's
├── NoReadyPod           the pool (or the allowed subset of it) is empty
└── Saturated            every pod was filtered out
PluginConfigError        a plugin cannot be built as configured
"""


class SchedulingError(Exception):
    """No pod can be picked for a request. `str()` is for logs, never for clients."""


class NoReadyPod(SchedulingError):
    """There is no pod to choose from."""


class Saturated(SchedulingError):
    """There are pods, and each was filtered out. `filter` names the filter that left none."""

    def __init__(self, filter: str) -> None:  # noqa: A002 - the field's word
        super().__init__(f"all pods were filtered out by {filter!r}")
        self.filter = filter


class PluginConfigError(Exception):
    """A plugin cannot be built as configured.

    `path` leads into the scheduler section: `("pluginConfig", 0, "args", "x")`; `hint` is a valid name that was
    probably meant, or advice, or "".
    """

    def __init__(self, message: str, path: tuple[str | int, ...] = (), hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.hint = hint
