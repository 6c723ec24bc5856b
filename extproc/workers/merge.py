"""What several processes say of the same pods, as one."""

from collections.abc import Iterable, Mapping, Sequence
from heapq import merge
from itertools import islice
from typing import Any


def rows_of_all(pages: Iterable[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """One row for each pod. All know of each other's requests, so that the first that knows a pod speaks for it.

    One that was started a moment ago knows of fewer: the larger counts are true.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for page in pages:
        for row in page:
            key = row.get("pool", ""), row["address"]
            known = found.get(key)
            if known is None:
                found[key] = dict(row)
            else:
                known["in_flight"] = max(known["in_flight"], row["in_flight"])
                known["in_flight_tokens"] = max(known["in_flight_tokens"], row["in_flight_tokens"])
    return list(found.values())


def sources_of_all(pages: Iterable[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """One row for each source of pods: of the process that reaches it worst."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for page in pages:
        for row in page:
            key = row["pool"], row["source"]
            known = found.get(key)
            if known is None or _worth(row) < _worth(known):
                found[key] = dict(row)
    return list(found.values())


def _worth(row: Mapping[str, Any]) -> tuple[bool, float]:
    return row["up"], -row["seconds_since_contact"]


def decisions_of_all(pages: Iterable[Sequence[Mapping[str, Any]]], limit: int) -> list[dict[str, Any]]:
    """The newest `limit` decisions, newest first. Each page has its newest first."""
    newest = merge(*pages, key=lambda row: row["time"], reverse=True)
    return [dict(row) for row in islice(newest, limit)]


def matches_of_all(decisions: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Address of a pod -> mean share (0-1) of the prompts that it held, over these decisions for it."""
    found: dict[str, list[float]] = {}
    for row in decisions:
        if row["prefix_match"] is not None:
            found.setdefault(row["pods"][0], []).append(row["prefix_match"])
    return {address: sum(shares) / len(shares) for address, shares in found.items()}
