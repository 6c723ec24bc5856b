"""How urgent a request is: its objective by a header, and the priority by the objective's name."""

from collections.abc import Iterable, Mapping
from typing import Final

from extproc.protocol.headers import Headers

#: The reference picker's, its newer name first.
OBJECTIVE_HEADERS: Final = ("x-llm-d-inference-objective", "x-gateway-inference-objective")
#: Of a request without an objective, or with an unknown one, and of an objective that names none.
DEFAULT_PRIORITY: Final = 0


class Objectives:
    """Priorities by name. Below 0: may be dropped while there is no room.

    Args:
        written: of the configuration. They come before those that are found.
    """

    __slots__ = ("_priorities", "_written")

    def __init__(self, written: Mapping[str, int]) -> None:
        self._written = dict(written)
        self._priorities = dict(written)

    def __len__(self) -> int:
        return len(self._priorities)

    def found(self, objectives: Iterable[tuple[str, int]]) -> None:
        """All that were found elsewhere, in place of those that were found before."""
        self._priorities = {**dict(objectives), **self._written}

    def priority(self, headers: Headers) -> int:
        """Of a request with these headers."""
        for name in OBJECTIVE_HEADERS:
            value = headers.raw(name)
            if value is not None:
                return self._priorities.get(value.decode("latin-1"), DEFAULT_PRIORITY)
        return DEFAULT_PRIORITY
