"""Draws what `bench/peers.py` has saved: `python draw.py RESULTS.json`, with aiperf's Python, which has matplotlib.

Prints the names of the files, beside RESULTS.json.
"""

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

PARTS = {"Envoy": "#ac6199", "router": "#b9b4a5", "sidecar": "#3b6ea8"}
DIRECT = "direct"


def pick(rows: list[dict[str, Any]], system: str, kib: int, concurrency: int) -> list[dict[str, Any]]:
    wanted = (system, kib, concurrency, False)
    return [row for row in rows if (row["system"], row["kib"], row["concurrency"], row["stream"]) == wanted]


def cpu(rows: list[dict[str, Any]], part: str) -> float:
    found = [row["cpu"].get(part, 0.0) / row["requests"] * 1e6 for row in rows]
    return median(found) if found else 0.0


def cost_by_size(rows: list[dict[str, Any]], systems: list[str], path: Path) -> None:
    """CPU per request, in parts, a panel for each of two sizes."""
    figure, panels = plt.subplots(1, 2, figsize=(11, 0.45 * len(systems) + 1.4), sharey=True)
    for panel, kib in zip(panels, (1, 32), strict=True):
        left = [0.0] * len(systems)
        for part, colour in PARTS.items():
            widths = [cpu(pick(rows, system, kib, 32), part) for system in systems]
            panel.barh(systems, widths, left=left, color=colour, label=part)
            left = [a + b for a, b in zip(left, widths, strict=True)]
        for place, total in enumerate(left):
            panel.text(total, place, f" {total:,.0f}", va="center", fontsize=8)
        panel.set_title(f"{kib} KB bodies, 32 at once", fontsize=10)
        panel.set_xlabel("CPU µs per request")
        panel.margins(x=0.12)
    panels[0].invert_yaxis()
    panels[1].legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    figure.savefig(path)


def latency(rows: list[dict[str, Any]], systems: list[str], path: Path) -> None:
    """p50 and p99 of one request at a time."""
    shown = [system for system in [DIRECT, *systems] if pick(rows, system, 1, 1)]
    figure, panel = plt.subplots(figsize=(8, 0.45 * len(shown) + 1.4))
    for key, colour, height in (("p99", "#d8d3c5", 0.8), ("p50", "#3b6ea8", 0.5)):
        values = [median(row[key] for row in pick(rows, system, 1, 1)) / 1e3 for system in shown]
        panel.barh(shown, values, height=height, color=colour, label=key)
    panel.invert_yaxis()
    panel.set_xlabel("ms, 1 KB bodies, one request at a time")
    panel.legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    source = Path(sys.argv[1])
    rows = json.loads(source.read_text(encoding="utf-8"))["rows"]
    systems = [system for system in dict.fromkeys(row["system"] for row in rows) if system != DIRECT]
    for name, draw in (("cpu", cost_by_size), ("latency", latency)):
        path = source.with_name(f"{source.stem}-{name}.svg")
        draw(rows, systems, path)
        print(path.name)


if __name__ == "__main__":
    main()
