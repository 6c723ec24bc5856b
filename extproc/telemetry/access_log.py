"""One line of JSON per request: where it was sent, and how it ended. No prompt, answer or credential is in it."""

from collections.abc import Callable
from typing import Any

import msgspec

from extproc.telemetry.finished import Ended, Refused

_encode = msgspec.json.Encoder().encode


class AccessLog:
    """A `Witness` that writes a line for each request.

    Args:
        write: takes whole lines. What it writes to must not block for long.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write

    def ended(self, ended: Ended) -> None:
        decision, outcome, usage = ended.decision, ended.outcome, ended.outcome.usage
        row = decision.candidates.rows[decision.pod.address]
        line: dict[str, Any] = {
            "time": round(ended.at, 3),
            "request_id": ended.request.id,
            "path": ended.path,
            "model": ended.model,
            "pool": ended.pool,
            "rewritten_model": ended.request.model if ended.request.model != ended.model else None,
            "subject": ended.subject,
            "status": outcome.status,
            "details": outcome.details,
            "picked": decision.pod.address,
            "served": outcome.served,
            "attempts": outcome.attempts,
            "score": round(float(decision.total[row]), 1),
            "cost": None if decision.costs is None else decision.costs.of(row),
            "prefix_match": None if decision.prefix_match is None else round(decision.prefix_match, 3),
            "seconds": round(ended.seconds, 4),
            "decision_seconds": round(ended.decision_seconds, 6),
            "ttft": _rounded(outcome.ttft),
            "tpot": _rounded(outcome.tpot),
            "prompt_tokens": usage.prompt,
            "cached_tokens": usage.cached,
            "completion_tokens": usage.completion,
        }
        self._write(_encode(line) + b"\n")

    def refused(self, refused: Refused) -> None:
        line: dict[str, Any] = {
            "time": round(refused.at, 3),
            "request_id": refused.request_id,
            "path": refused.path,
            "model": refused.model,
            "subject": refused.subject,
            "status": refused.status,
            "details": refused.code,
            "detail": refused.detail,
            "seconds": round(refused.seconds, 4),
        }
        self._write(_encode(line) + b"\n")


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
