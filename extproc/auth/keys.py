"""A JWK set (RFC 7517) made into keys that verify signatures. Entries that do not fit are left out and reported."""

import codecs
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import get_default_algorithms
from jwt.exceptions import PyJWTError

from extproc.auth.base import ALGORITHMS, Pending
from extproc.auth.encoding import json_object

#: Bytes. The largest sets of public providers are below 30 KiB.
MAX_JWKS = 256 * 1024
#: Public providers publish 2-10 keys; many more would make every token without `kid` expensive.
MAX_KEYS = 100
#: Bits. NIST SP 800-131A.
MIN_RSA_BITS = 2048
#: Bits. Verifying grows with the square: 0.3 ms at 8192.
MAX_RSA_BITS = 8192
#: Keys tried for a token that names none: what a stranger may cost is at most this many verifications.
MAX_TRIES = 10

_DEFAULTS = get_default_algorithms()
#: RFC 9864's names are of the same algorithm as EdDSA; which curve is known of the key.
_VERIFIERS = {name: _DEFAULTS["EdDSA" if name in {"Ed25519", "Ed448"} else name] for name in ALGORITHMS}

_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
#: (kty, crv) -> algorithms that a key of that type can be used with: RFC 7518 section 3.1, RFC 8037 section 3.1.
_FITTING = {
    ("RSA", None): _RSA,
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA", "Ed25519"),
    ("OKP", "Ed448"): ("EdDSA", "Ed448"),
}


class JwksError(ValueError):
    """A key set cannot be had, or cannot be read. `str()` is for logs."""


class Ignored(NamedTuple):
    """A key that is not used."""

    kid: str | None
    why: str


class KeySet:
    """The usable keys of an issuer. Never changes; a new set is a new object."""

    __slots__ = ("_all", "_by_kid", "_kids", "_unnamed", "ignored", "kids")

    def __init__(self, keys: Iterable[tuple[str | None, tuple[str, ...], Any]], ignored: tuple[Ignored, ...]) -> None:
        self._by_kid: dict[tuple[str, str], tuple[Any, ...]] = {}
        self._unnamed: dict[str, tuple[Any, ...]] = {}
        self._all: dict[str, tuple[Any, ...]] = {}
        names: list[str | None] = []
        for kid, algorithms, key in keys:
            names.append(kid)
            for algorithm in algorithms:
                if kid is None:
                    self._unnamed[algorithm] = (*self._unnamed.get(algorithm, ()), key)
                else:
                    self._by_kid[kid, algorithm] = (*self._by_kid.get((kid, algorithm), ()), key)
                self._all[algorithm] = (*self._all.get(algorithm, ()), key)
        #: Of the usable keys, in the order of the set.
        self.kids: tuple[str | None, ...] = tuple(names)
        self._kids = frozenset(names)
        self.ignored = ignored

    def __len__(self) -> int:
        return len(self.kids)

    def knows(self, kid: str | None) -> bool:
        return kid in self._kids

    def fitting(self, kid: str | None, algorithm: str) -> tuple[Any, ...]:
        """The keys that a token may have been signed with, at most `MAX_TRIES`.

        A token that names a key may also be signed by one that the set does not name: some providers have only one.
        """
        if kid is None:
            return self._all.get(algorithm, ())[:MAX_TRIES]
        named = self._by_kid.get((kid, algorithm))
        if named is not None or self.knows(kid):
            return (named or ())[:MAX_TRIES]
        return self._unnamed.get(algorithm, ())[:MAX_TRIES]


class KeySource(Protocol):
    """Where the keys of an issuer come from."""

    def current(self, now: float) -> KeySet | None:
        """The keys to use, the same object until they change; None where there are none or they are too old."""
        ...

    def refresh(self, now: float) -> Pending | None:
        """Ask for newer keys. None: not now, they were asked for a moment ago."""
        ...


def verify(algorithm: str, key: Any, signed: bytes, signature: bytes) -> bool:
    """Whether `key` signed this. `key` comes from `KeySet.fitting` for the same algorithm."""
    return _VERIFIERS[algorithm].verify(signed, key, signature)


def read_jwks(data: bytes) -> KeySet:
    """Read a JWK set. Raises JwksError where it is none; keys in it that cannot be used are listed in `ignored`."""
    if len(data) > MAX_JWKS:
        raise JwksError(f"larger than {MAX_JWKS} bytes")
    try:
        # Some servers (.NET's, PowerShell's) begin a file with a byte order mark.
        entries = json_object(data.removeprefix(codecs.BOM_UTF8)).get("keys")
    except ValueError:
        raise JwksError("not a JSON object") from None
    if not isinstance(entries, list):
        raise JwksError('no list "keys"')
    if len(entries) > MAX_KEYS:
        raise JwksError(f"more than {MAX_KEYS} keys")
    usable: list[tuple[str | None, tuple[str, ...], Any]] = []
    ignored: list[Ignored] = []
    for entry in entries:
        kid = entry.get("kid") if isinstance(entry, dict) else None
        name = kid if isinstance(kid, str) else None
        try:
            algorithms, key = _read_key(entry)
        except JwksError as error:
            ignored.append(Ignored(name, str(error)))
            continue
        # RFC 7517 section 4.5: keys of one set "SHOULD" have different names. Of those that have not, each is tried.
        if (name, algorithms, key) in usable:
            ignored.append(Ignored(name, "duplicate"))
        else:
            usable.append((name, algorithms, key))
    return KeySet(usable, tuple(ignored))


def _read_key(entry: object) -> tuple[tuple[str, ...], Any]:
    """The algorithms that a key may be used with, and the key. Raises JwksError with the reason."""
    if not isinstance(entry, dict):
        raise JwksError("not an object")
    kind: tuple[Any, Any] = (entry.get("kty"), None if entry.get("kty") == "RSA" else entry.get("crv"))
    if not all(isinstance(value, str | None) for value in (*kind, entry.get("kid"))):
        raise JwksError("not a JWK")
    fitting = _FITTING.get(kind)
    if fitting is None:
        raise JwksError(f"unsupported key type {kind[0]!r:.20}, curve {kind[1]!r:.20}")
    # RFC 7517 sections 4.2 and 4.3.
    if entry.get("use", "sig") != "sig":
        raise JwksError("not for signatures (use)")
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise JwksError("not for verifying (key_ops)")
    if "d" in entry:
        raise JwksError("a private key: whoever read it can sign")
    algorithm = entry.get("alg")
    if algorithm is not None:
        if algorithm not in fitting:
            raise JwksError(f"algorithm {algorithm!r:.20} does not fit the key type")
        if kind[0] != "OKP":
            # Of those, both names are of one algorithm.
            fitting = (algorithm,)
    return fitting, _public_key(fitting[0], entry)


def _public_key(algorithm: str, entry: Mapping[str, object]) -> Any:
    numbers = {name: entry[name] for name in ("kty", "crv", "n", "e", "x", "y") if name in entry}
    if not all(isinstance(value, str) for value in numbers.values()):
        raise JwksError("not a JWK")
    try:
        with warnings.catch_warnings():
            # cryptography warns of weak keys; the size is judged below.
            warnings.simplefilter("ignore")
            key = _VERIFIERS[algorithm].from_jwk(numbers)
    except (PyJWTError, ValueError, TypeError, OverflowError, UnsupportedAlgorithm):
        raise JwksError("not a valid key") from None
    if isinstance(key, RSAPublicKey) and not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        raise JwksError(f"RSA key of {key.key_size} bits")
    return key
