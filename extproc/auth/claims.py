"""Checks of the claims of a token."""

from collections.abc import Mapping
from typing import TypeGuard

from extproc.auth.base import Reason
from extproc.auth.token import TokenError

Claims = Mapping[str, object]

#: Seconds. Integers are exact in a float up to here; no date lies beyond.
MAX_NUMERIC_DATE = 2**53

#: Claims that hold a list as one string with spaces: RFC 8693 section 4.2, and the older spelling of some providers.
_SPACED = frozenset({"scope", "scp"})


def check_subject(claims: Claims) -> str:
    """`sub`, or "" where there is none. Raises TokenError."""
    subject = claims.get("sub", "")
    if not isinstance(subject, str):
        raise TokenError(Reason.MALFORMED)
    return subject


def check_times(claims: Claims, *, now: float, clock_skew: float) -> float:
    """`exp`, which is later than `now` (both seconds since the epoch). Raises TokenError."""
    if "exp" not in claims:
        raise TokenError(Reason.NO_EXPIRY)
    expiry = _date(claims["exp"])
    latest = now + clock_skew
    # Both are read before expiry is checked: a malformed token is reported as malformed at any time.
    early = any(name in claims and _date(claims[name]) > latest for name in ("nbf", "iat"))
    # RFC 7519 section 4.1.4: "on or after which the JWT MUST NOT be accepted".
    if expiry <= now:
        raise TokenError(Reason.EXPIRED)
    if early:
        raise TokenError(Reason.NOT_YET_VALID)
    return expiry


def check_audience(claims: Claims, audiences: frozenset[str]) -> None:
    """`aud` names one of `audiences`, where there are any. Raises TokenError."""
    found = claims.get("aud", [])
    if isinstance(found, str):
        found = [found]
    if not _strings(found):
        raise TokenError(Reason.MALFORMED)
    if audiences and audiences.isdisjoint(found):
        raise TokenError(Reason.WRONG_AUDIENCE)


def claim(claims: Claims, path: str) -> object:
    """The claim of that name; else, of a path with dots, the one inside of others. None: there is none.

    Names of claims (`https://example.com/roles`) and of clients may have dots themselves.
    """
    found = claims.get(path)
    if found is not None or "." not in path:
        return found
    at = path.find(".")
    while at >= 0:
        outer = claims.get(path[:at])
        if isinstance(outer, dict):
            inner = claim(outer, path[at + 1 :])
            if inner is not None:
                return inner
        at = path.find(".", at + 1)
    return None


def has(claims: Claims, path: str, value: object) -> bool:
    """Whether a claim equals `value` or is a list that holds it; of a tuple, one does. A `scope` is such a list."""
    if type(value) is tuple:
        return any(has(claims, path, one) for one in value)
    found = claim(claims, path)
    name = path.rpartition(".")[2]
    if isinstance(found, list):
        return any(_same(item, value) for item in found)
    if name in _SPACED and isinstance(found, str):
        return isinstance(value, str) and bool(value) and f" {value} " in f" {found} "
    return _same(found, value)


def models(claims: Claims, path: str) -> frozenset[str]:
    """The models that a claim lists; none where it is missing or is no list of strings."""
    found = claim(claims, path)
    if isinstance(found, str):
        found = found.split()
    return frozenset(found) if _strings(found) else frozenset()


def _date(value: object) -> float:
    # `bool` is an int to Python, and not to JSON.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MAX_NUMERIC_DATE:
        raise TokenError(Reason.MALFORMED)
    return value


def _strings(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _same(found: object, wanted: object) -> bool:
    # 1 == True in Python, and not in JSON.
    return isinstance(found, bool) == isinstance(wanted, bool) and found == wanted
