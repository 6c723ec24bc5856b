"""Writes docs/chart.md: every value of the chart, its default, and the comment above it in values.yaml.

`make docs` runs it; a test compares the page with the chart.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
VALUES = ROOT / "deploy" / "helm" / "infer-gateway" / "values.yaml"
PAGE = ROOT / "docs" / "chart.md"
#: Values whose keys are the gateway's, Kubernetes' or the user's own: one row for all of each.
WHOLE = frozenset(
    {
        "gateway", "sharing.redis", "envoy.resources", "sidecar.resources", "podSecurityContext",
        "containerSecurityContext", "podAnnotations", "dashboard.labels",
    }
)  # fmt: skip
INTRODUCTION = """\
# The chart's values

Made from `deploy/helm/infer-gateway/values.yaml` by `make docs`. `values.schema.json` refuses other
values and other types.
[operations.md](operations.md#installing) has how to install; `gateway` is the configuration of
[configuration.md](configuration.md).

| value | default | |
|---|---|---|
"""

_KEY = re.compile(r"^( *)([A-Za-z]\w*):")


def comments(text: str) -> dict[str, str]:
    """The comment above each key, by the key's path."""
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    above: list[str] = []
    for line in text.splitlines():
        key = _KEY.match(line)
        if line.strip().startswith("#"):
            above.append(line.strip().lstrip("#").strip())
        elif key is not None:
            depth = len(key[1])
            path = [one for one in path if one[0] < depth] + [(depth, key[2])]
            found[".".join(name for _, name in path)] = " ".join(above)
            above = []
        else:
            above = []
    return found


def rows(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict) and value and path not in WHOLE:
            yield path, None
            yield from rows(value, f"{path}.")
        else:
            yield path, value


def page() -> str:
    text = VALUES.read_text(encoding="utf-8")
    described = comments(text)
    lines = []
    for path, value in rows(yaml.safe_load(text)):
        words = described.get(path, "").replace("|", "\\|")
        if value is None and path not in described:
            continue
        group = isinstance(_at(path), dict) and path not in WHOLE and bool(_at(path))
        if group and not words:
            continue
        default = "" if group or path in WHOLE else f"`{json.dumps(value, ensure_ascii=False)}`"
        lines.append(f"| `{path}` | {default} | {words} |\n")
    return INTRODUCTION + "".join(lines)


def _at(path: str) -> Any:
    value = yaml.safe_load(VALUES.read_text(encoding="utf-8"))
    for name in path.split("."):
        value = value[name]
    return value


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
