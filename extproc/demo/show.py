"""The demo's output: plain text whose names and numbers are whole on 80 columns, in a file and in a CI's log."""

from collections.abc import Mapping, Sequence
from typing import Any

from extproc.admin.columns import columns
from extproc.demo.workload import Served

_HEADS = ("turn", "pod", "status", "ms", "prompt", "cached", "why this pod")
_NUMBERS = frozenset({2, 3, 4, 5})


def table(served: Sequence[Served]) -> str:
    """One line a request: the pod that served, the tokens of its prompt that the pod's cache held, and the reason."""
    lines = columns(_HEADS, [_row(one) for one in served], numbers=_NUMBERS)
    lines += [f"{one.conversation} #{one.turn}: {one.error}" for one in served if one.error]
    return "\n".join(lines)


def _row(one: Served) -> list[str]:
    turn = f"{one.conversation} #{one.turn}" + (" SSE" if one.streamed else "")
    status = str(one.status) if one.ok else f"{one.status} failed"
    numbers = [f"{one.seconds * 1000:.0f}", _number(one.prompt_tokens), _number(one.cached_tokens)]
    return [turn, one.pod, status, *numbers, why(one.decision)]


def why(decision: Sequence[Mapping[str, Any]]) -> str:
    """The reason in few words: the costs at the pod and at the second, or the scorer that set them apart."""
    if not decision:
        return ""
    picked, *others = decision
    if not others:
        return "the only one"
    equals = sum(other["total"] >= picked["total"] for other in others)
    if equals:
        return f"one of {equals + 1} equals"
    if "cost" in picked and "cost" in others[0]:
        here, there = (round(one["cost"]["seconds"] * 1000) for one in (picked, others[0]))
        return f"costs {here} ms, elsewhere {there}"
    second = others[0]["scores"]
    ahead, name = max((score - second.get(name, 0.0), name) for name, score in picked["scores"].items())
    return f"{name} {second.get(name, 0.0) + ahead:.0f} vs {second.get(name, 0.0):.0f}"


def stays(served: Sequence[Served], gateways: int = 1) -> str:
    """How many later turns went to the pod that holds their conversation, through so many gateways by turns."""
    pods: dict[str, str] = {}
    later = kept = 0
    for one in served:
        before = pods.get(one.conversation)
        if before is not None:
            later += 1
            kept += one.pod == before
        pods[one.conversation] = one.pod
    by = f", each through another of {gateways} gateways than the turn before" if gateways > 1 else ""
    return f"{kept} of {later} later turns went to the pod that holds their conversation{by}."


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
