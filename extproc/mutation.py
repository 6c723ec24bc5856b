"""A decision, in the words of the Endpoint Picker Protocol."""

from collections.abc import Sequence
from functools import lru_cache

from extproc.headers import CONTENT_LENGTH, DESTINATION
from extproc.replies import Mutation
from scheduler.types import Pod

#: Lists of pods whose mutation is kept. A pool of 16 pods has as many first choices with a few common orders of
#: fallbacks each; an entry is about 1 KiB, so this is 4 MiB at most.
MAX_CACHED_MUTATIONS = 4096

#: Characters of the names of headers to be removed, in a mutation that is kept. Behind another Envoy than ours clients
#: choose them, each as long as headers may be; the names of all that is known have 200.
MAX_KEPT_NAMES = 256


def destination(pods: Sequence[Pod]) -> str:
    """`ip:port[,ip:port…]`: the first is to be used, the others are for retries, in their order (protocol 004)."""
    return ",".join([pod.address for pod in pods])


def routing(
    value: str,
    set_headers: tuple[tuple[str, str], ...] = (),
    remove_headers: tuple[str, ...] = (),
    pool: str = "",
) -> Mutation:
    """Sends a request to `value`: "the header … and the dynamic metadata … MUST be the same value" (protocol 004)."""
    set_headers = ((DESTINATION, value), *set_headers)
    return (_kept if _may_be_kept(remove_headers) else Mutation)(set_headers, remove_headers, value, pool)


def admission(
    set_headers: tuple[tuple[str, str], ...], remove_headers: tuple[str, ...], admitted: bool = True
) -> Mutation:
    """What the headers alone bring about, before it is known where the request goes."""
    return (_kept if _may_be_kept(remove_headers) else Mutation)(set_headers, remove_headers, "", "", admitted)


_kept = lru_cache(maxsize=MAX_CACHED_MUTATIONS)(Mutation)


def _may_be_kept(remove_headers: tuple[str, ...]) -> bool:
    return sum(map(len, remove_headers)) <= MAX_KEPT_NAMES


def with_length(mutation: Mutation, length: int) -> Mutation:
    """The same for a body that is replaced by one of `length` bytes, which Envoy does not find out by itself."""
    headers = (*mutation.set_headers, (CONTENT_LENGTH, str(length)))
    return Mutation(headers, mutation.remove_headers, mutation.destination, mutation.pool)
