"""Prefill and decode on different pods: one computes the prompt, another takes over its cache and answers."""

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from scheduler.config import MAX_PODS
from scheduler.cycle import schedule
from scheduler.errors import SchedulingError
from scheduler.profile import Profile
from scheduler.types import BoolArray, Decision, Prefill, Request, Snapshot

if TYPE_CHECKING:
    from random import Random

#: Values of the label that say which part a pod takes. A pod without the label does both for its own requests.
PREFILL, DECODE, BOTH = "prefill", "decode", "both"


class Disaggregation:
    """Decisions for pods with parts of their own.

    Args:
        label: whose value is a pod's role.
        threshold: prompt tokens; a request goes through a prefill pod if its decode pod would have to compute more.
    """

    def __init__(self, *, label: str, threshold: int) -> None:
        self._label = label
        self._threshold = threshold

    def schedule(
        self,
        profile: Profile,
        request: Request,
        snapshot: Snapshot,
        *,
        now: float,
        rng: "Random",
        record: bool = True,
        most: int = MAX_PODS,
    ) -> Decision:
        """As `scheduler.cycle.schedule`: a decode pod with its fallbacks, and a prefill pod if that is worth it.

        Without a prefill pod that may serve the request, the decode pod does it all.

        Raises:
            NoReadyPod: there is no decode pod, or none that the gateway's subset allows.
            Saturated: a filter left none.
        """
        decoders, prefillers = snapshot.derive((Disaggregation, self._label), self._split)
        if decoders is not None:
            snapshot, whole = snapshot.select(decoders), snapshot
        else:
            whole = snapshot
        decision = schedule(profile, request, snapshot, now=now, rng=rng, record=record, most=most)
        if prefillers is None or decision.uncached_tokens <= self._threshold:
            return decision
        try:
            found = schedule(profile, request, whole.select(prefillers), now=now, rng=rng, record=record, most=1)
        except SchedulingError:
            return decision
        return msgspec.structs.replace(
            decision,
            uncached_tokens=0,
            prefill=Prefill(found.pod, found.uncached_tokens, found.prefix_match, found.undo),
        )

    def _split(self, snapshot: Snapshot) -> tuple[BoolArray | None, BoolArray | None]:
        """Which pods decode, None for all; and which do nothing but prefill, None for none."""
        roles = [_parts(pod.labels.get(self._label, BOTH)) for pod in snapshot.pods]
        decoders = np.array([DECODE in parts for parts in roles], np.bool_)
        prefillers = np.array([PREFILL in parts and DECODE not in parts for parts in roles], np.bool_)
        return (None if decoders.all() else decoders), (prefillers if prefillers.any() else None)


def _parts(role: str) -> tuple[str, ...]:
    """Roles may be put together: `encode-prefill`."""
    return (PREFILL, DECODE) if role in (BOTH, "") else tuple(role.split("-"))
