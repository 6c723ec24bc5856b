"""What an engine reports. `at` is the moment in the engine's own time, seconds: never after the `now` of the call."""

import msgspec


class FirstToken(msgspec.Struct, frozen=True):
    """Prefill is done and the first token of the answer is there."""

    id: str
    at: float
    prompt_tokens: int
    cached_tokens: int
    #: Seconds since the request was submitted.
    ttft: float


class Token(msgspec.Struct, frozen=True):
    """Each token of an answer after the first."""

    id: str
    at: float
    #: Seconds since the token before.
    gap: float


class Finished(msgspec.Struct, frozen=True):
    """The last thing heard of a request that was not aborted. The only one where no token was asked for."""

    id: str
    at: float
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    #: Seconds since the request was submitted.
    latency: float
    #: Seconds of these spent waiting for admission.
    queued: float


Event = FirstToken | Token | Finished
