"""A frame as text for a terminal. Names come from clients: they are shortened, and hold no control characters."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from math import isnan
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from extproc.admin.top.frame import Frame, PodRow
from extproc.config.units import shorten

#: Lines beside the tables' rows: head, rates, outcomes, titles, heads of columns, spaces.
_OTHER_LINES = 13
#: Columns of a screen from which on everything is shown.
_WIDE = 120
_COLUMNS = (
    "pod", "state", "share", "in flight", "waiting", "running", "KV", "TTFT", "TPOT", "prefix", "failed", "metrics age",
)  # fmt: skip
_FEW_COLUMNS = ("pod", "state", "share", "flight", "wait", "run", "KV", "TTFT", "TPOT")
#: Rows of either table that are shown on the smallest of screens.
_LEAST_ROWS = 3
_BAR = 8
_UNKNOWN = "–"
_GOOD, _WARN, _BAD = "green", "yellow", "red"


def render(
    frame: Frame, admin: str, width: int, height: int, away: str = "", zone: tzinfo | None = None
) -> RenderableType:
    """The frame for a screen. `away`: why the sidecar does not answer; the frame is an old one then.

    Times are of `zone`; None: of this machine.
    """
    room = max(height - _OTHER_LINES, 2 * _LEAST_ROWS)
    decisions = frame.now["decisions"]
    shown = min(len(frame.pods), max(room - min(len(decisions), room // 3), _LEAST_ROWS))
    pods = _most_worth(frame.pods, shown)
    wide = width >= _WIDE
    return Group(
        _head(frame, admin, away),
        _rates(frame),
        _outcomes(frame),
        Text(),
        _pods(pods, frame, wide),
        Text(),
        _decisions(decisions[: max(room - len(pods), _LEAST_ROWS)], frame, wide, zone),
    )


def waiting(admin: str, away: str) -> RenderableType:
    """The screen before the first answer."""
    return Text.assemble(
        ("infer-gateway ", "bold"), clean(admin), "  ", (clean(away or "asking …", 200), "red" if away else "dim")
    )


def clean(text: str, limit: int = 40) -> str:
    return shorten(text, limit)


def _head(frame: Frame, admin: str, away: str) -> Text:
    now = frame.now
    ready = sum(1 for pod in frame.pods if pod.row["ready"])
    reason = clean(now["not_ready"], 80)
    away_sources = [f"{row['source']}: {row['error']}" for row in now.get("discovery", ()) if row["error"]]
    state = (reason, _WARN) if reason else ("ready", _GOOD)
    if not reason and away_sources:
        state = (f"ready; {clean('; '.join(away_sources), 120)}", _WARN)
    if away:
        state = (f"{clean(away, 200)}; trying again", _BAD)
    return Text.assemble(
        (f"infer-gateway {now['version']} ", "bold"), f"{admin}  ", state,
        f"  up {duration(now['uptime'])}  {ready} of {len(frame.pods)} pods  {frame.in_flight} in flight",
    )  # fmt: skip


def _rates(frame: Frame) -> Text:
    means, tokens = frame.means, frame.tokens
    parts = [
        ("requests/s", rate(frame.requests)),
        ("first token", duration(means["ttft"])),
        ("per token", duration(means["tpot"])),
        ("prefix match", percent(means["prefix_match"])),
        ("tokens/s in", rate(tokens.get("prompt", 0.0))),
        ("cached", rate(tokens.get("cached", 0.0))),
        ("out", rate(tokens.get("completion", 0.0))),
        ("decision", duration(means["decision"])),
    ]
    return Text("   ").join([Text.assemble((f"{name} ", "dim"), (value, "bold")) for name, value in parts])


def _outcomes(frame: Frame) -> Text:
    parts = [
        Text.assemble((status, _GOOD if status[:1] in "123" else _BAD), f" {rate(value)}/s")
        for status, value in frame.outcomes.items()
    ]
    refusals = sorted(frame.refusals.items(), key=lambda item: -item[1])[:4]
    parts += [Text.assemble((f"refused {clean(name)}", _BAD), f" {rate(value)}/s") for name, value in refusals]
    parts += [
        Text.assemble((name.replace("_", " "), _WARN), f" +{count:.0f}")
        for name, count in frame.counts.items()
        if count
    ]
    return Text("  ").join(parts) if parts else Text("no request has ended yet", "dim")


def _most_worth(pods: Sequence[PodRow], room: int) -> Sequence[PodRow]:
    """All of them, or where they are too many those with worries and the busiest."""
    if len(pods) <= room:
        return pods
    return sorted(pods, key=lambda pod: (not pod.worry, -pod.row["in_flight"]))[: room - 1]


def _pods(pods: Sequence[PodRow], frame: Frame, wide: bool) -> Table:
    grid = _table(*(_COLUMNS if wide else _FEW_COLUMNS))
    share = _bar if wide else percent
    for pod in pods:
        row = pod.row
        worry = clean(pod.worry, 30) if wide else pod.worry.partition(":")[0]
        further = (
            percent(row["prefix_match"]),
            Text(number(row["failed_requests"]), _BAD if row["failed_requests"] else ""),
            Text(duration(row["scrape_age"]), _BAD if row["failures"] else ""),
        )
        _add(
            grid,
            clean(_name(row, frame), 24),
            Text(worry or "ready", _BAD if worry else _GOOD),
            share(pod.share),
            number(row["in_flight"]),
            number(row["waiting"]),
            number(row["running"]),
            share(row["kv_usage"]),
            duration(row["ttft"]),
            duration(row["tpot"]),
            *(further if wide else ()),
        )
    if len(pods) < len(frame.pods):
        others = frame.in_flight - sum(pod.row["in_flight"] for pod in pods)
        _add(grid, Text(f"and {len(frame.pods) - len(pods)} more", "dim"), "", "", number(others))
    if not pods:
        _add(grid, Text("no pods yet", "dim"))
    return grid


def _name(row: Mapping[str, Any], frame: Frame) -> str:
    """The pod's, with its pool's where there are several."""
    return f"{row['pool']}/{row['name']}" if len(frame.pools) > 1 else str(row["name"])


def _asked(decision: Mapping[str, Any]) -> str:
    """The model, and the model after rewriting."""
    rewritten = decision["rewritten_model"]
    return f"{decision['model']} → {rewritten}" if rewritten else str(decision["model"])


def _decisions(decisions: Sequence[Any], frame: Frame, wide: bool, zone: tzinfo | None) -> Table:
    names = {pod.row["address"]: pod.row["name"] for pod in frame.pods}
    plugins = list(dict.fromkeys(name for decision in decisions for name in decision["weights"])) if wide else []
    grid = _table("decided", "model", "request", "pod", "prompt", "to compute", "prefix", *plugins, "total", left=4)
    costly = any("cost" in decision["candidates"][0] for decision in decisions)
    if costly:
        grid.add_column("cost", justify="left" if wide else "right", no_wrap=True)
    for decision in decisions:
        # The picked pod is the first candidate.
        best, pod = decision["candidates"][0], decision["pods"][0]
        _add(
            grid,
            datetime.fromtimestamp(decision["time"], UTC).astimezone(zone).strftime("%H:%M:%S"),
            clean(_asked(decision), 20),
            clean(decision["request_id"], 13),
            clean(names.get(pod, pod), 24),
            number(decision["prompt_tokens"]),
            number(decision["uncached_tokens"]),
            percent(decision["prefix_match"]),
            *[number(best["scores"].get(name)) for name in plugins],
            number(best["total"]),
            *([_cost(best.get("cost"), wide)] if costly else []),
        )
    if not decisions:
        _add(grid, Text("none", "dim"))
    return grid


def _cost(cost: Mapping[str, Any] | None, wide: bool) -> str:
    if cost is None:
        return _UNKNOWN
    return str(cost["words"]) if wide else duration(cost["seconds"])


def _table(*names: str, left: int = 2) -> Table:
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), header_style="dim", show_edge=False)
    for place, name in enumerate(names):
        grid.add_column(Text(clean(name, 24)), justify="left" if place < left else "right", no_wrap=True)
    return grid


def _add(grid: Table, *cells: str | Text) -> None:
    # A plain string would be read as rich's markup, and what is in it is not ours.
    grid.add_row(*[Text(cell) if isinstance(cell, str) else cell for cell in cells])


def _bar(share: float | None) -> Text:
    if share is None or isnan(share):
        return Text(_UNKNOWN)
    filled = round(max(0.0, min(share, 1.0)) * _BAR)
    return Text.assemble(("━" * filled, "cyan"), ("─" * (_BAR - filled), "dim"), f" {percent(share):>5}")


def number(value: float | None) -> str:
    return _UNKNOWN if value is None or isnan(value) else f"{value:,.0f}"


def rate(value: float) -> str:
    return _UNKNOWN if isnan(value) else f"{value:,.1f}" if value < 10 else f"{value:,.0f}"


def percent(share: float | None) -> str:
    return _UNKNOWN if share is None or isnan(share) else f"{share * 100:.0f} %"


#: Longest value in seconds -> seconds in its unit, digits, unit.
_UNITS = (
    (1e-3, 1e-6, 0, "µs"), (1e-2, 1e-3, 1, "ms"), (1, 1e-3, 0, "ms"), (10, 1, 1, "s"), (120, 1, 0, "s"),
    (7200, 60, 0, "min"), (float("inf"), 3600, 0, "h"),
)  # fmt: skip


def duration(seconds: float | None) -> str:
    if seconds is None or isnan(seconds):
        return _UNKNOWN
    unit, digits, name = next((size, digits, name) for limit, size, digits, name in _UNITS if seconds < limit)
    return f"{seconds / unit:.{digits}f} {name}"
