"""A decision, in the words of the Endpoint Picker Protocol."""

from collections.abc import Sequence
from functools import lru_cache

from extproc.headers import CONTENT_LENGTH, DESTINATION
from extproc.replies import Mutation
from scheduler.types import Pod

#: Lists of pods whose mutation is kept. A pool of 16 pods has as many first choices with a few common orders of
#: fallbacks each; an entry is about 1 KiB, so this is 4 MiB at most.
MAX_CACHED_MUTATIONS = 4096


def destination(pods: Sequence[Pod]) -> str:
    """`ip:port[,ip:port…]`: the first is to be used, the others are for retries, in their order (protocol 004)."""
    return ",".join([pod.address for pod in pods])


@lru_cache(maxsize=MAX_CACHED_MUTATIONS)
def routing(
    value: str,
    set_headers: tuple[tuple[str, str], ...] = (),
    remove_headers: tuple[str, ...] = (),
    pool: str = "",
) -> Mutation:
    """Sends a request to `value`: "the header … and the dynamic metadata … MUST be the same value" (protocol 004)."""
    return Mutation(
        set_headers=((DESTINATION, value), *set_headers), remove_headers=remove_headers, destination=value, pool=pool
    )


@lru_cache(maxsize=MAX_CACHED_MUTATIONS)
def admission(set_headers: tuple[tuple[str, str], ...], remove_headers: tuple[str, ...]) -> Mutation:
    """What a good token brings about, before it is known where the request goes."""
    return Mutation(set_headers=set_headers, remove_headers=remove_headers, admitted=True)


def with_length(mutation: Mutation, length: int) -> Mutation:
    """The same for a body that is replaced by one of `length` bytes, which Envoy does not find out by itself."""
    headers = (*mutation.set_headers, (CONTENT_LENGTH, str(length)))
    return Mutation(headers, mutation.remove_headers, mutation.destination, mutation.pool)
