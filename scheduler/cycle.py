# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""One decision: subset → prepare → filter → score → pick → record."""

from typing import TYPE_CHECKING, Any

import numpy as np

from scheduler.config import MAX_PODS
from scheduler.errors import NoReadyPod, Saturated
from scheduler.framework import MAX_SCORE, MIN_SCORE, Cycle
from scheduler.profile import FAULTY, PREPARE, SCORE, BadAnswer, Member, Profile
from scheduler.types import BoolArray, Decision, FloatArray, Pod, Request, Snapshot, Undo

if TYPE_CHECKING:
    from random import Random

#: Share of the pods below which no pod rests: Envoy's panic threshold is the same.
MIN_AWAKE = 0.5
#: Totals that differ by less are a tie; far above rounding noise and far below what any scorer means by a difference.
TIE = 1e-6
#: Scores may leave their range by so much: rounding, not a fault.
SLACK = 1e-6
#: Up to so many pods, numbers are added and compared one by one: numpy's calls cost the same for 1 pod as for 100, and
#: more in a process that does other things in between than in a loop.
FEW = 16
#: Added and taken off again, it rounds a double to a whole number, half to even, as `np.rint` does. Doubles beyond
#: `_WHOLE` it would spoil; those differ by more than any tie anyway.
_ROUND, _WHOLE = 1.5 * 2.0**52, 2.0**51


def schedule(
    profile: Profile,
    request: Request,
    snapshot: Snapshot,
    *,
    now: float,
    rng: "Random",
    record: bool = True,
    most: int = MAX_PODS,
) -> Decision:
    """Picks a pod for `request`, with up to four fallbacks.

    The best total wins; ties go to the fewest in-flight requests, then to chance: the pod that served fewest before,
    for conversations that stay elsewhere, would get all new ones.

    Args:
        profile: the plugins.
        request: the request to be served.
        snapshot: the pods that are ready.
        now: monotonic seconds.
        rng: for ties and for plugins that roll dice.
        record: False decides without notifying the plugins of the pick: nothing is to be undone then.
        most: pods in the decision, fallbacks included: 1 to `MAX_PODS`.

    Raises:
        NoReadyPod: there is no pod, or none that the gateway's subset allows.
        Saturated: a filter left none.
    """
    cycle = Cycle(now=now, rng=rng)
    pods = snapshot if request.subset is None else _allowed(snapshot, request.subset)
    if not pods.pods:
        raise NoReadyPod("no pod is ready" if request.subset is None else "no pod of the allowed subset is ready")
    if pods.resting is not None:
        pods = _awake(pods, pods.resting)
    if pods.refusing is not None:
        pods = _without(pods, pods.refusing)
    if pods.missing:
        missing = pods.missing.get(request.model)
        if missing is not None:
            pods = _without(pods, missing)
    for member in profile.preparers:
        _prepare(profile, member, request, pods, cycle)
    filtered: dict[str, int] = {}
    for member in profile.filters:
        pods = _filter(profile, member, request, pods, cycle)
        filtered[member.name] = len(pods.pods)
    allowed = pods
    for member in profile.preferences:
        pods = _filter(profile, member, request, pods, cycle, must=False)
        filtered[member.name] = len(pods.pods)
    scores, total = _score(profile, request, pods, cycle)
    rows = _best(total, pods, rng)
    best = rows[0]
    tokens = request.prompt.tokens
    share = None
    match = cycle.prefix_match
    if match is not None:
        share = match.item(best)
        tokens = round(tokens * (1.0 - share * cycle.prefix_span))
    picked = [pods.pods[row] for row in rows[:most]]
    if len(picked) < most and len(pods.pods) < len(allowed.pods):
        picked += _others(allowed, pods, most - len(picked), rng)
    undo = _record(profile, request, pods.pods[best], cycle) if record else ()
    return Decision(
        pods=tuple(picked),
        candidates=pods,
        total=total,
        scores=scores,
        weights=profile.weights,
        filtered=filtered,
        uncached_tokens=tokens,
        prefix_match=share,
        costs=cycle.costs,
        undo=undo,
    )


def record_at(
    profile: Profile, request: Request, snapshot: Snapshot, pod: Pod, *, now: float, rng: "Random"
) -> tuple[Undo, ...]:
    """Notifies the plugins that `pod` got the request in the end, whatever was picked: Envoy tried another one."""
    cycle = Cycle(now=now, rng=rng)
    for member in profile.preparers:
        _prepare(profile, member, request, snapshot, cycle)
    return _record(profile, request, pod, cycle)


def _record(profile: Profile, request: Request, pod: Pod, cycle: Cycle) -> tuple[Undo, ...]:
    undo: tuple[Undo, ...] = ()
    for member in profile.recorders:
        taken_back = profile.run(member, request, pod, cycle)
        if taken_back is not None and taken_back is not FAULTY:
            undo = (*undo, taken_back)
    return undo


def _allowed(snapshot: Snapshot, subset: frozenset[str]) -> Snapshot:
    rows = snapshot.rows
    allowed = [rows[address] for address in subset if address in rows]
    if len(allowed) == len(snapshot):
        return snapshot
    keep = np.zeros(len(snapshot), np.bool_)
    keep[allowed] = True
    return snapshot.select(keep)


def _awake(pods: Snapshot, resting: BoolArray) -> Snapshot:
    """Without the pods that failed lately, unless that is most of them: then it is not the pods that are at fault."""
    left = len(pods.pods) - np.count_nonzero(resting)
    return pods.select(~resting) if left and left >= len(pods.pods) * MIN_AWAKE else pods


def _without(pods: Snapshot, some: BoolArray) -> Snapshot:
    """Without some pods, unless that is all of them: one of them may have changed its mind."""
    return pods if some.all() else pods.select(~some)


def _prepare(profile: Profile, member: Member, request: Request, pods: Snapshot, cycle: Cycle) -> None:
    before = cycle.prefix_match
    answer = profile.run(member, request, pods, cycle)
    match = cycle.prefix_match
    if match is before:
        return
    fault = _fault_of(match, len(pods.pods), 1.0)
    if fault and answer is not FAULTY:
        profile.on_fault(member.name, PREPARE, BadAnswer(f"prefix_match {fault}"))
    if fault or answer is FAULTY:
        cycle.prefix_match = before


def _others(allowed: Snapshot, preferred: Snapshot, count: int, rng: "Random") -> list[Pod]:
    """Fallbacks beyond the pods that were preferred: those with the fewest requests in flight."""
    known = preferred.rows
    rows = [row for row, pod in enumerate(allowed.pods) if pod.address not in known]
    counts = allowed.in_flight.tolist()
    keys = zip([counts[row] for row in rows], _dice(len(rows), rng), rows, strict=True)
    return [allowed.pods[key[2]] for key in sorted(keys)[:count]]


def _filter(
    profile: Profile, member: Member, request: Request, pods: Snapshot, cycle: Cycle, *, must: bool = True
) -> Snapshot:
    keep: BoolArray = profile.run(member, request, pods, cycle)
    if keep is FAULTY:
        return pods
    count = len(pods.pods)
    if type(keep) is not np.ndarray or keep.shape != (count,) or keep.dtype.kind != "b":
        profile.on_fault(member.name, member.phase, BadAnswer(f"a mask of {count} is wanted, not {_shape_of(keep)}"))
        return pods
    if b"\0" not in keep.tobytes():
        return pods
    if not np.count_nonzero(keep):
        if must:
            raise Saturated(member.name)
        return pods
    if cycle.prefix_match is not None:
        cycle.prefix_match = cycle.prefix_match[keep]
    return pods.select(keep)


def _score(
    profile: Profile, request: Request, pods: Snapshot, cycle: Cycle
) -> tuple[dict[str, FloatArray], FloatArray | list[float]]:
    """Scores by scorer, and their weighted sum."""
    count = len(pods.pods)
    scores: dict[str, FloatArray] = {}
    # Valid answers that hold for all requests of this snapshot, by member.
    known = pods.derived
    for member in profile.scorers:
        answer = known.get(member)
        if answer is None:
            answer = profile.run(member, request, pods, cycle)
            if type(answer) is not np.ndarray or answer.shape != (count,) or answer.dtype.kind not in "fiu":
                if answer is not FAULTY:
                    wanted = BadAnswer(f"{count} scores are wanted, not {_shape_of(answer)}")
                    profile.on_fault(member.name, member.phase, wanted)
                continue
            if member.scraped_only:
                known[member] = answer
        # The answers of the plugins, no copy: most give the same array to many requests.
        scores[member.name] = answer
    return scores, _sum_of_few(profile, scores, count) if count <= FEW else _sum(profile, scores, count)


def _sum_of_few(profile: Profile, scores: dict[str, FloatArray], count: int) -> list[float]:
    """The weighted sum of valid scores. Takes others out of `scores`."""
    total = [0.0] * count
    weights = profile.weights
    for name, answer in list(scores.items()):
        values: list[float] = answer.tolist()
        if _within(values, MAX_SCORE):
            weight: float = weights[name]
            for row in range(count):
                total[row] += values[row] * weight
        else:
            _out_of_range(profile, scores, name)
    return total


def _sum(profile: Profile, scores: dict[str, FloatArray], count: int) -> FloatArray:
    """As `_sum_of_few`, for many pods."""
    matrix = np.zeros((len(profile.scorers), count))
    for row, name in enumerate(profile.scorer_names):
        if name in scores:
            matrix[row] = scores[name]
    if scores:
        # One look at all scores; a NaN is found as both, and makes each comparison false.
        low, high = matrix.item(matrix.argmin()), matrix.item(matrix.argmax())
        if not (low >= MIN_SCORE - SLACK and high <= MAX_SCORE + SLACK):
            for name in [name for name, answer in scores.items() if _fault_of(answer, count, MAX_SCORE)]:
                _out_of_range(profile, scores, name)
            return _sum(profile, scores, count)
    weighted = matrix if profile.weight_column is None else matrix * profile.weight_column
    total: FloatArray = np.add.reduce(weighted, axis=0)
    return total


def _out_of_range(profile: Profile, scores: dict[str, FloatArray], name: str) -> None:
    answer = scores.pop(name)
    profile.on_fault(name, SCORE, BadAnswer(f"score {_fault_of(answer, len(answer), MAX_SCORE)}"))


def _best(total: FloatArray | list[float], pods: Snapshot, rng: "Random") -> list[int]:
    """Rows of the best pods, best first."""
    if isinstance(total, list):
        return _best_of_few(total, pods, rng)
    # Whole numbers, so that a tie is an equality; negative, so that less is better as it is in the other keys.
    worth = np.rint(total * (-1 / TIE))
    rows = _least((worth, pods.in_flight), rng)
    keys = zip(
        worth[rows].tolist(),
        pods.in_flight[rows].tolist(),
        _dice(len(rows), rng),
        rows,
        strict=True,
    )
    return [key[3] for key in sorted(keys)]


def _best_of_few(total: list[float], pods: Snapshot, rng: "Random") -> list[int]:
    count = len(total)
    if count == 1:
        return [0]
    worth: list[float] = []
    for value in total:
        less = value * (-1 / TIE)
        worth.append(less + _ROUND - _ROUND if -_WHOLE < less < _WHOLE else less)
    keys = zip(worth, pods.in_flight.tolist(), _dice(count, rng), range(count), strict=True)
    return [key[3] for key in sorted(keys)[:MAX_PODS]]


def _dice(count: int, rng: "Random") -> list[float]:
    roll = rng.random
    return [roll() for _ in range(count)]


def _least(keys: tuple[Any, ...], rng: "Random") -> list[int]:
    """The `MAX_PODS` rows that are least by the keys in turn, in no order; chance decides where all keys are equal."""
    chosen: list[int] = []
    rows = None
    for key in keys:
        values = key if rows is None else key[rows]
        wanted = MAX_PODS - len(chosen)
        edge = np.partition(values, wanted - 1)[wanted - 1]
        below = np.flatnonzero(values < edge)
        tied = np.flatnonzero(values == edge)
        if rows is not None:
            below, tied = rows[below], rows[tied]
        chosen += below.tolist()
        rows = tied
        if len(tied) + len(chosen) == MAX_PODS:
            return chosen + tied.tolist()
    assert rows is not None  # noqa: S101 - there are keys
    return chosen + rng.sample(rows.tolist(), MAX_PODS - len(chosen))


def _fault_of(values: Any, count: int, most: float) -> str:
    """The error in `count` numbers of 0 to `most`, or ""."""
    if type(values) is not np.ndarray or values.shape != (count,) or values.dtype.kind not in "fiu":
        return f"must be {count} numbers, not {_shape_of(values)}"
    if count <= FEW and _within(values.tolist(), most):
        return ""
    # A NaN is found as both.
    low, high = values.item(values.argmin()), values.item(values.argmax())
    if low >= -SLACK and high <= most + SLACK:
        return ""
    return f"must be within 0-{most:g}, not {low} to {high}"


def _within(values: list[float], most: float) -> bool:
    """Whether all are of 0 to `most`; NaN is not."""
    return all(-SLACK <= value <= most + SLACK for value in values)


def _shape_of(answer: Any) -> str:
    """The answer of a plugin, in few words."""
    if isinstance(answer, np.ndarray):
        return f"an array of {answer.dtype} of shape {answer.shape}"
    return type(answer).__name__
