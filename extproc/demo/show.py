"""What the demo prints."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from extproc.demo.workload import Served


def table(served: Sequence[Served], out: Console) -> None:
    """One row a request: who served it, and the scores by which it was chosen."""
    plugins = sorted({name for one in served for row in one.decision[:1] for name in row["scores"]})
    grid = Table(title="Which pod served each request, and why (scores of the picked pod, 0-100)")
    for name in ("conversation", "turn", "status", "pod", "ms", "prompt", "cached"):
        grid.add_column(name, justify="left" if name in ("conversation", "pod") else "right")
    for name in (*plugins, "total"):
        grid.add_column(name, justify="right", style="cyan")
    for one in served:
        picked = one.decision[0] if one.decision else None
        scores = [_number(picked["scores"].get(name)) if picked else "" for name in plugins]
        grid.add_row(
            one.conversation + (" (SSE)" if one.streamed else ""),
            str(one.turn),
            str(one.status) if one.ok else f"{one.status} {one.error}",
            one.pod,
            f"{one.seconds * 1000:.0f}",
            _number(one.prompt_tokens),
            _number(one.cached_tokens),
            *scores,
            _number(picked["total"]) if picked else "",
            style=None if one.ok else "red",
        )
    out.print(grid)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def report(served: Sequence[Served], addresses: dict[str, Any]) -> dict[str, Any]:
    """The same for programs."""
    return {
        **addresses,
        "requests": [
            {
                "conversation": one.conversation, "turn": one.turn, "request_id": one.request_id,
                "streamed": one.streamed, "status": one.status, "ok": one.ok, "error": one.error,
                "milliseconds": round(one.seconds * 1000, 1), "pod": one.pod, "prompt_tokens": one.prompt_tokens,
                "cached_tokens": one.cached_tokens, "completion_tokens": one.completion_tokens,
                "decision": one.decision,
            }
            for one in served
        ],
        "failed": sum(not one.ok for one in served),
    }  # fmt: skip
