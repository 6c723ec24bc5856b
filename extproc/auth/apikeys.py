"""API keys, for those without an identity provider: a file of names and hashes, and the identity that a key stands for.

A key is 256 random bits, so a plain SHA-256 of it cannot be turned back; the file holds hashes only.
"""

import datetime
import hmac
import math
import secrets
from base64 import urlsafe_b64encode
from hashlib import sha256
from types import MappingProxyType
from typing import Any

import msgspec
import yaml

from extproc.auth.base import Identity

#: Prefix of a key. Clients that look at keys want `sk-`; scanners of secrets want something to look for.
PREFIX = "sk-ig-"
#: Random bytes of a key.
_RANDOM = 32
#: Bytes of the file: 10,000 keys with some models each.
MAX_FILE = 4 << 20
MAX_KEYS = 10_000
_HASH = "sha256:"
_DATE_LENGTH = len("2030-01-31")


class ApiKeysError(ValueError):
    """A file of API keys is missing or cannot be read. `str()` gives place and reason, and quotes no key."""


class ApiKey(msgspec.Struct, frozen=True):
    """One key, as far as it is known."""

    digest: bytes
    identity: Identity
    #: Seconds since the epoch.
    expires: float = math.inf


class ApiKeys:
    """The keys of a file. Never changes; a new file is a new object."""

    __slots__ = ("_by_digest",)

    def __init__(self, keys: list[ApiKey]) -> None:
        self._by_digest = {key.digest: key for key in keys}

    def __len__(self) -> int:
        return len(self._by_digest)

    def find(self, text: bytes) -> ApiKey | None:
        """The key whose text this is, or None. Only hashes are compared: the time taken reveals nothing of a key."""
        digest = sha256(text).digest()
        found = self._by_digest.get(digest)
        return found if found is not None and hmac.compare_digest(found.digest, digest) else None


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    hash: str
    models: list[str] | None = None
    expires: Any = None
    claims: dict[str, Any] = {}


class _File(msgspec.Struct, forbid_unknown_fields=True):
    keys: list[_Entry]


def new_key() -> str:
    """The text of a new key."""
    return PREFIX + urlsafe_b64encode(secrets.token_bytes(_RANDOM)).decode().rstrip("=")


def hashed(text: str) -> str:
    """How the file names a key."""
    return _HASH + sha256(text.encode()).hexdigest()


def entry(name: str, hash_: str, *, models: list[str] | None, expires: str | None) -> str:
    """An entry of the file's list, as YAML. Raises ApiKeysError where it would not be read."""
    fields: dict[str, Any] = {"name": name, "hash": hash_}
    if models:
        fields["models"] = models
    if expires:
        fields["expires"] = expires
    text = yaml.safe_dump([fields], sort_keys=False, allow_unicode=True)
    read_api_keys(b"keys:\n" + text.encode())
    return text


def read_api_keys(data: bytes) -> ApiKeys:
    """Read a file of keys. Raises ApiKeysError; of a file with a mistake, nothing is used."""
    if len(data) > MAX_FILE:
        raise ApiKeysError(f"larger than {MAX_FILE} bytes")
    try:
        file = msgspec.yaml.decode(data, type=_File)
    except msgspec.ValidationError as error:
        raise ApiKeysError(f"{error}"[:300]) from None
    except (msgspec.DecodeError, ValueError):
        # Without the cause, which would quote the line.
        raise ApiKeysError("no YAML") from None
    if len(file.keys) > MAX_KEYS:
        raise ApiKeysError(f"more than {MAX_KEYS} keys")
    keys: list[ApiKey] = []
    names: set[str] = set()
    digests: set[bytes] = set()
    for index, entry in enumerate(file.keys):
        where = f"keys[{index}]"
        if not entry.name or not entry.name.isprintable():
            raise ApiKeysError(f"{where}.name must not be empty, and be printable")
        key = ApiKey(_digest(entry.hash, where), _identity(entry), _expiry(entry.expires, where))
        if entry.name in names:
            raise ApiKeysError(f"{where}.name is the name of another key")
        if key.digest in digests:
            raise ApiKeysError(f"{where}.hash is the hash of another key")
        names.add(entry.name)
        digests.add(key.digest)
        keys.append(key)
    return ApiKeys(keys)


def _identity(entry: _Entry) -> Identity:
    claims = MappingProxyType({**entry.claims, "sub": entry.name})
    return Identity(entry.name, "", claims, None if entry.models is None else frozenset(entry.models))


def _digest(text: str, where: str) -> bytes:
    digits = text.removeprefix(_HASH)
    try:
        digest = bytes.fromhex(digits)
    except ValueError:
        digest = b""
    if not text.startswith(_HASH) or len(digest) != sha256().digest_size or len(digits) != 2 * len(digest):
        raise ApiKeysError(
            f"{where}.hash must be as `infer-gateway api-key` prints it: sha256: and 64 hexadecimal digits"
        )
    return digest


def _expiry(value: object, where: str) -> float:
    if value is None:
        return math.inf
    if isinstance(value, str):
        kind = datetime.date if len(value) == _DATE_LENGTH else datetime.datetime
        try:
            value = kind.fromisoformat(value)
        except ValueError:
            value = None
    if isinstance(value, datetime.datetime):
        zoned = value if value.tzinfo is not None else value.replace(tzinfo=datetime.UTC)
        return zoned.timestamp()
    if isinstance(value, datetime.date):
        # The day itself is included.
        end = datetime.datetime.combine(value, datetime.time(), datetime.UTC) + datetime.timedelta(days=1)
        return end.timestamp()
    raise ApiKeysError(f"{where}.expires must be a date such as 2030-01-31, or a time such as 2030-01-31T12:00:00Z")
