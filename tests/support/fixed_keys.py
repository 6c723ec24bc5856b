"""A source of keys that a test sets by hand."""

from extproc.auth.base import Pending
from extproc.auth.keys import KeySet


class FixedKeys:
    """A `KeySource`. `asked` counts calls of `refresh`, which says to wait where `newer` is given."""

    def __init__(self, keys: KeySet | None, newer: KeySet | None = None) -> None:
        self.keys = keys
        self.newer = newer
        self.asked = 0

    def current(self, now: float) -> KeySet | None:
        return self.keys

    def refresh(self, now: float) -> Pending | None:
        self.asked += 1
        return None if self.newer is None else Pending(self._fetch)

    async def _fetch(self) -> None:
        self.keys = self.newer
