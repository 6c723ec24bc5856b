# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""A decision, in the words of the Endpoint Picker Protocol."""

from collections.abc import Sequence
from functools import lru_cache

import msgspec

from extproc.protocol.replies import Mutation
from scheduler.types import Pod

#: Answers to headers that are kept. There are a few, or one a subject where identity headers are set: 8 MiB at most.
MAX_CACHED_MUTATIONS = 4096

#: Characters of the headers in a mutation that is kept. Tokens have claims of kilobytes, and behind another Envoy than
#: ours clients choose the names to be removed, each as long as headers may be; the names of all that is known have 200.
MAX_KEPT = 1024


def destination(pods: Sequence[Pod]) -> str:
    """`ip:port[,ip:port…]`: the first is to be used, the others are for retries, in their order (protocol 004)."""
    return ",".join([pod.address for pod in pods])


def admission(
    set_headers: tuple[tuple[str, str], ...], remove_headers: tuple[str, ...], admitted: bool = True
) -> Mutation:
    """The mutation that follows from the headers alone, before the pod is picked."""
    size = sum(map(len, remove_headers)) + sum([len(name) + len(value) for name, value in set_headers])
    return (_kept if size <= MAX_KEPT else Mutation)(set_headers, remove_headers, "", "", admitted)


_kept = lru_cache(maxsize=MAX_CACHED_MUTATIONS)(Mutation)


def with_header(mutation: Mutation, name: str, value: str) -> Mutation:
    """`mutation` that sets one more header, whose value no other request has: it is not kept."""
    return msgspec.structs.replace(mutation, set_headers=(*mutation.set_headers, (name, value)))


def without_header(mutation: Mutation, name: str) -> Mutation:
    """`mutation` that removes one more header."""
    return msgspec.structs.replace(mutation, remove_headers=(*mutation.remove_headers, name))
