"""What the gateways of a group hash prompts by: all from one secret."""

from hashlib import blake2b
from typing import Final

import msgspec

#: Bytes of a secret that is made.
MADE: Final = 32


class Secret(msgspec.Struct, frozen=True):
    """What follows from a group's secret."""

    #: Seeds hashes. 64 bits.
    seed: int
    #: Fingerprint: equal for equal secrets, and of no use to an attacker.
    seal: bytes


def secret_of(material: bytes, group: str) -> Secret:
    """From what a file or Redis has; white space around it does not count, which editors add."""
    key = blake2b(material.strip(), digest_size=32, salt=b"infer-gateway").digest()

    def derived(purpose: bytes) -> bytes:
        return blake2b(group.encode(), key=key, digest_size=8, person=purpose).digest()

    return Secret(int.from_bytes(derived(b"seed"), "big"), derived(b"seal"))
