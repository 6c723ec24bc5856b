"""Snapshots from short literals, and strategies that make any."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import nan
from random import Random

import numpy as np
from hypothesis import strategies as st

from scheduler.framework import Cycle
from scheduler.types import Adapters, Pod, Prompt, Request, Snapshot


@dataclass(frozen=True)
class P:
    """One pod: `P(1, 10, 0.4)` waits 1, runs 10 and has 0.4 of its KV cache in use."""

    waiting: float = nan
    running: float = nan
    kv: float = nan
    ttft: float = nan
    tpot: float = nan
    in_flight: int = 0
    tokens: int = 0
    served: int = 0
    #: Seconds as of time 0, and seconds per prompt token.
    backlog: float = 0.0
    pace: float = 1e-4
    adapters: Adapters = Adapters()
    address: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


def address(row: int) -> str:
    return f"10.0.{row // 250}.{row % 250 + 1}:8000"


def snapshot(*rows: P) -> Snapshot:
    return Snapshot.of(
        [Pod(row.address or address(index), labels=row.labels) for index, row in enumerate(rows)],
        waiting=[row.waiting for row in rows],
        running=[row.running for row in rows],
        kv_usage=[row.kv for row in rows],
        ttft=[row.ttft for row in rows],
        tpot=[row.tpot for row in rows],
        adapters=[row.adapters for row in rows],
        in_flight=[row.in_flight for row in rows],
        in_flight_tokens=[row.tokens for row in rows],
        served=[row.served for row in rows],
        backlog=[row.backlog for row in rows],
        pace=[row.pace for row in rows],
    )


def cycle(match: Sequence[float] | None = None, *, span: float = 1.0, seed: int = 1, now: float = 0.0) -> Cycle:
    made = Cycle(now=now, rng=Random(seed))
    if match is not None:
        made.prefix_match = np.array(match, np.float64)
        made.prefix_span = span
    return made


def request(text: str = "", *, model: str = "m", subset: frozenset[str] | None = None, **found: str) -> Request:
    """`found` is what look-ups find: `header_x_session_id="a"` is the header `x-session-id`."""
    known = {tuple(key.replace("_", "-").split("-", 1)): value for key, value in found.items()}
    return Request(model=model, prompt=Prompt([text]), subset=subset, lookup=lambda kind, name: known.get((kind, name)))


ADAPTERS = ("sql", "chat", "code")

_unknown = st.just(nan)
_names = st.frozensets(st.sampled_from(ADAPTERS))

#: Any pod, unknown values and silly ones included; addresses are given when rows become a snapshot.
pods = st.builds(
    P,
    waiting=st.one_of(_unknown, st.integers(0, 200).map(float)),
    running=st.one_of(_unknown, st.integers(0, 300).map(float)),
    kv=st.one_of(_unknown, st.floats(0, 1.2)),
    ttft=st.one_of(_unknown, st.floats(0, 1e4)),
    tpot=st.one_of(_unknown, st.floats(0, 100)),
    in_flight=st.integers(0, 500),
    tokens=st.integers(0, 10_000_000),
    served=st.integers(0, 1_000_000),
    backlog=st.floats(0, 1000),
    pace=st.floats(2e-6, 0.1),
    adapters=st.builds(Adapters, running=_names, waiting=_names, capacity=st.integers(0, 4)),
)


def fleets(*, least: int = 1, most: int = 30) -> st.SearchStrategy[list[P]]:
    """Lists of pods, each with an address that stays its own wherever it is put."""
    return st.lists(pods, min_size=least, max_size=most).map(
        lambda rows: [replace(row, address=address(index)) for index, row in enumerate(rows)]
    )
