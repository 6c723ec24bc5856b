"""`session-affinity`: a session's requests go to one pod, without any memory of sessions."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator
from xxhash import xxh3_64_intdigest

from scheduler.framework import MAX_SCORE, Cycle, PluginParams
from scheduler.types import FloatArray, Request, Snapshot

DEFAULT_HEADER = "x-session-id"

# The finaliser of SplitMix64: inputs that differ in one bit give outputs that differ in half of theirs.
_MULTIPLY_1 = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLY_2 = np.uint64(0x94D049BB133111EB)
_SHIFT_1, _SHIFT_2, _SHIFT_3 = np.uint64(30), np.uint64(27), np.uint64(31)


class SessionAffinityParams(PluginParams):
    """Where a session's name is found; asked in this order. Nothing given: the header `x-session-id`."""

    #: A header of the request.
    header: str | None = Field(None, min_length=1)
    #: A cookie.
    cookie: str | None = Field(None, min_length=1)
    #: A claim of the verified token.
    claim: str | None = Field(None, min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _default(cls, values: object) -> object:
        return values or {"header": DEFAULT_HEADER}


class SessionAffinity:
    """Score by rendezvous hashing of session and pod address: 100 for the session's pod, falling off in a fixed order.

    The hash is the same in every process, so replicas agree. A pod that leaves moves only its own sessions, each to its
    next pod in order; one that comes takes only what is its own. No session: 0 for all. There are no ties.
    """

    name: ClassVar[str] = "session-affinity"
    Params: ClassVar[type[PluginParams]] = SessionAffinityParams

    def __init__(self, params: SessionAffinityParams) -> None:
        asked = (
            ("header", params.header and params.header.lower()),
            ("cookie", params.cookie),
            ("claim", params.claim),
        )
        self._sources = tuple([(kind, name) for kind, name in asked if name])

    def score(self, request: Request, pods: Snapshot, cycle: Cycle) -> FloatArray:  # noqa: ARG002 - contract
        for kind, name in self._sources:
            session = request.lookup(kind, name)
            if session:
                return _scores(session, pods)
        return np.zeros(len(pods))


def _scores(session: str, pods: Snapshot) -> FloatArray:
    mixed: npt.NDArray[np.uint64] = pods.derive(SessionAffinity, _address_hashes) ^ np.uint64(
        xxh3_64_intdigest(session.encode("utf-8", "surrogatepass"))
    )
    mixed ^= mixed >> _SHIFT_1
    mixed *= _MULTIPLY_1
    mixed ^= mixed >> _SHIFT_2
    mixed *= _MULTIPLY_2
    mixed ^= mixed >> _SHIFT_3
    # Uniform in (0, 1), then exponential: the least of exponentials stands well apart from the next, which uniform
    # numbers close to 1 do not, so other scorers cannot overrule a session's pod by chance.
    waits = -np.log((mixed >> np.uint64(11)) * 2.0**-53 + 2.0**-54)
    scores: FloatArray = waits.min() / waits * MAX_SCORE  # in this order the best has 100 to the last bit
    return scores


def _address_hashes(pods: Snapshot) -> npt.NDArray[np.uint64]:
    return np.array([xxh3_64_intdigest(pod.address.encode()) for pod in pods.pods], np.uint64)
