"""The cached result of the check of a token."""

import msgspec

from extproc.auth.base import Identity, Reason
from extproc.auth.keys import KeySet, KeySource


class Accepted(msgspec.Struct, frozen=True):
    identity: Identity
    #: Seconds since the epoch: the token's `exp`.
    until: float
    source: KeySource
    #: The keys that the token was verified with: with others, the verdict is void.
    keys: KeySet


class Refused(msgspec.Struct, frozen=True):
    reason: Reason
    until: float
    #: None where no key had a part in it.
    source: KeySource | None = None
    keys: KeySet | None = None
