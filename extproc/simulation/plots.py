"""Plots of a comparison. The one module that needs matplotlib, which is an extra: `infer-gateway[plots]`."""

import io
from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure as Canvas

from extproc.simulation.show import Comparison

# No window, whatever the machine has; and the same bytes for the same figures.
mpl.use("agg")
mpl.rcParams["svg.hashsalt"] = "infer-gateway"
#: Colours that people with any colour vision distinguish (Okabe and Ito), the compared one first.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999", "#f0e442")
#: Windows that the time of a run is cut into.
_WINDOWS = 60


def draw(comparison: Comparison) -> Mapping[str, Canvas]:
    """Plots by name: `ttft` (how many requests waited how long), `time` (p90 over the run), `figures` (bars)."""
    return {"ttft": _distribution(comparison), "time": _over_time(comparison), "figures": _bars(comparison)}


def rendered(canvas: Canvas, form: str) -> bytes:
    """A plot as a file: `svg` or `png`."""
    buffer = io.BytesIO()
    canvas.savefig(buffer, format=form, dpi=144, metadata={"Date": None} if form == "svg" else None)
    return buffer.getvalue()


def _distribution(comparison: Comparison) -> Canvas:
    canvas = Canvas(figsize=(9, 4.5), layout="constrained")
    panel = canvas.subplots()
    for colour, (name, outcomes) in zip(_colours(), comparison.outcomes.items(), strict=False):
        values = np.sort([ttft for outcome in outcomes for _, ttft in outcome.ttft])
        if values.size:
            shares = 1.0 - np.arange(values.size) / values.size
            panel.plot(np.maximum(values, 1e-3), shares, label=name, color=colour, linewidth=1.5)
    panel.set(
        xscale="log", yscale="log", xlabel="time to first token, s", ylabel="share of requests that waited longer",
        title="Time to first token",
    )  # fmt: skip
    panel.grid(visible=True, which="both", alpha=0.2)
    panel.legend(fontsize=8)
    return canvas


def _over_time(comparison: Comparison) -> Canvas:
    canvas = Canvas(figsize=(9, 4.5), layout="constrained")
    panel = canvas.subplots()
    for colour, (name, outcomes) in zip(_colours(), comparison.outcomes.items(), strict=False):
        # One seed: over several, a queue of one would hide in the others.
        points = np.array(outcomes[0].ttft).reshape(-1, 2)
        if not points.size:
            continue
        width = max(points[-1, 0] - points[0, 0], 1e-9) / _WINDOWS
        window = ((points[:, 0] - points[0, 0]) / width).astype(int)
        rows = [(at, float(np.percentile(points[window == at, 1], 90))) for at in np.unique(window)]
        panel.plot(
            [at * width for at, _ in rows], [value for _, value in rows], label=name, color=colour, linewidth=1.5
        )
    panel.set(xlabel="seconds of the run", ylabel="TTFT p90, s", title="Time to first token over the run, first seed")
    panel.grid(visible=True, alpha=0.2)
    panel.legend(fontsize=8)
    return canvas


def _bars(comparison: Comparison) -> Canvas:
    shown = {"ttft_p90": "TTFT p90, s", "tpot_p90": "TPOT p90, s", "seconds_p90": "end to end p90, s",
             "hit_rate": "cached share"}  # fmt: skip
    canvas = Canvas(figsize=(12, 0.4 * len(comparison.figures) + 1.4), layout="constrained")
    panels = canvas.subplots(1, len(shown), sharey=True)
    names = list(comparison.figures)
    for panel, (key, title) in zip(panels, shown.items(), strict=True):
        rows = [comparison.figures[name][key] for name in names]
        panel.barh(
            names, [row.median for row in rows], color=_colours()[: len(names)],
            xerr=[[row.median - row.least for row in rows], [row.most - row.median for row in rows]], capsize=2,
        )  # fmt: skip
        panel.set_title(title, fontsize=10)
    panels[0].invert_yaxis()
    return canvas


def _colours() -> list[str]:
    return [*_COLOURS] * 8
