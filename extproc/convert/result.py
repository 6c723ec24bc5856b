"""What became of somebody else's configuration."""

from collections.abc import Mapping
from typing import Any

import yaml

from extproc.errors import GatewayError

#: Above anything that any of these configurations means.
MAX_NUMBER = 1e15


class CannotConvert(GatewayError):
    """The source is no configuration of a known router. `str()` gives the reason."""


class Converted:
    """A configuration of this gateway, as it is written, and notes for whoever is to read it over."""

    def __init__(self) -> None:
        self.config: dict[str, Any] = {}
        self.notes: list[str] = []
        self._arguments: dict[str, dict[str, Any]] = {}
        self._scores: dict[str, float] = {}
        self._filters: list[str] = []

    def note(self, where: str, text: str) -> None:
        """Notes what a place of the source was converted to."""
        self.notes.append(f"{where}: {text}")

    def score(self, name: str, weight: float) -> None:
        """Enables a scorer; of several that become one, the weights add up."""
        self._scores[name] = self._scores.get(name, 0.0) + weight

    def filter(self, name: str) -> None:
        if name not in self._filters:
            self._filters.append(name)

    def arguments(self, name: str, **values: object) -> None:
        """Arguments of a plugin; those that are None stay out."""
        given = {key: value for key, value in values.items() if value is not None}
        if given:
            self._arguments.setdefault(name, {}).update(given)

    def end(self) -> None:
        """Writes down what was enabled."""
        enabled = {*self._scores, *self._filters}
        scores = [{"name": name, "weight": _short(weight)} for name, weight in self._scores.items()]
        scheduler: dict[str, Any] = {
            "plugins": {"Filter": {"enabled": self._filters}, "Score": {"enabled": scores}},
        }
        arguments = [{"name": name, "args": args} for name, args in self._arguments.items() if name in enabled]
        if arguments:
            scheduler["pluginConfig"] = arguments
        self.config = {"scheduler": scheduler, **self.config}

    def serve(self, pool: str) -> None:
        """Adds where a picker finds the pods of a pool, and how gateways call it: as the reference is called."""
        self.config["endpoints"] = {"kubernetes": {"inferencePool": {"name": pool}}}
        self.config["transport"] = {"address": "0.0.0.0:9002", "tls": {"selfSigned": True}} | self.config.get(
            "transport", {}
        )
        self.config["admin"] = {"host": "0.0.0.0"}  # noqa: S104 - probes and Prometheus come from outside of the pod
        self.config["objectives"] = {"watch": True} | self.config.get("objectives", {})

    def text(self, source: str) -> str:
        """The configuration as YAML, its notes before it."""
        lines = [f"# Made from {source} by infer-gateway convert."]
        if self.notes:
            lines.append("#\n# Not the same, or not there:")
            lines += [f"# - {note}" for note in self.notes]
        return "\n".join(lines) + "\n\n" + str(yaml.safe_dump(self.config, sort_keys=False, width=120))


def _short(weight: float) -> float | int:
    return int(weight) if weight == int(weight) else weight


def number(value: object) -> float | None:
    """A number of 0 or more that a source gives, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < MAX_NUMBER:
        return None
    return float(value)


def positive(value: object) -> float | None:
    """A number above 0, or None for anything else."""
    return number(value) or None


def mapping(value: object) -> Mapping[str, Any]:
    """A mapping that a source gives; empty for anything else."""
    return value if isinstance(value, dict) else {}


def listed(value: object) -> list[Any]:
    """A list that a source gives; empty for anything else."""
    return value if isinstance(value, list) else []
