"""One line of JSON per request: where it was sent, and how it ended. No prompt, answer or credential is in it."""

from collections.abc import Callable
from typing import Any

import msgspec

from extproc.outcomes import Outcome
from scheduler.types import Decision, Request

_encode = msgspec.json.Encoder().encode


class AccessLog:
    """Writes a line for each request that was routed and is over.

    Args:
        write: takes whole lines. It is called on the event loop, so what it writes to must not block for long.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write

    def ended(
        self, at: float, request: Request, decision: Decision, outcome: Outcome, *, subject: str, seconds: float
    ) -> None:
        """`at`: wall-clock seconds of the end. `seconds`: from the request's headers to the end of its answer."""
        usage = outcome.usage
        line: dict[str, Any] = {
            "time": round(at, 3),
            "request_id": request.id,
            "model": request.model,
            "subject": subject,
            "status": outcome.status,
            "details": outcome.details,
            "picked": decision.pod.address,
            "served": outcome.served,
            "attempts": outcome.attempts,
            "score": round(float(decision.total[decision.candidates.rows[decision.pod.address]]), 1),
            "prefix_match": None if decision.prefix_match is None else round(decision.prefix_match, 3),
            "seconds": round(seconds, 4),
            "ttft": _rounded(outcome.ttft),
            "tpot": _rounded(outcome.tpot),
            "prompt_tokens": usage.prompt,
            "cached_tokens": usage.cached,
            "completion_tokens": usage.completion,
        }
        self._write(_encode(line) + b"\n")


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
