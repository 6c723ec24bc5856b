"""The words of authentication: what is configured, what can be wrong with a token, and what is known of its bearer."""

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol
from urllib.parse import urlsplit

import msgspec

#: Every algorithm that a token may be signed with. All are asymmetric: a gateway that held a shared secret could sign
#: tokens itself, and `HS*` with a public key as the secret is the classic confusion.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")

#: Seconds. Less would turn one missed refresh of a key set into refusals.
MIN_MAX_STALE = 60.0


class Reason(StrEnum):
    """Why a request was refused: the word that logs and metrics carry. Never sent to a client."""

    #: No Authorization header.
    MISSING = "missing"
    #: Credentials of another kind than Bearer.
    WRONG_SCHEME = "wrong_scheme"
    #: More than one Authorization header.
    REPEATED_HEADER = "repeated_header"
    TOO_LARGE = "too_large"
    #: Not a JWT: its parts, their base64url, their JSON, or the type of a value in them.
    MALFORMED = "malformed"
    #: A header parameter that has to be understood (`crit`, `b64`) is not.
    CRITICAL_HEADER = "critical_header"
    #: The token brings or points to its own key (`jwk`, `x5c`, `x5u`).
    EMBEDDED_KEY = "embedded_key"
    #: A JWT made for another purpose, as its `typ` says.
    WRONG_TYPE = "wrong_type"
    UNSUPPORTED_ALGORITHM = "unsupported_algorithm"
    UNKNOWN_KEY = "unknown_key"
    BAD_SIGNATURE = "bad_signature"
    WRONG_ISSUER = "wrong_issuer"
    WRONG_AUDIENCE = "wrong_audience"
    NO_EXPIRY = "no_expiry"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    #: The token is genuine and a claim that is required is missing or different: 403.
    MISSING_CLAIM = "missing_claim"
    #: There is no key set, or only one that is too old: 503.
    KEYS_UNAVAILABLE = "keys_unavailable"


@dataclass(frozen=True)
class Issuer:
    """Somebody whose tokens are accepted. Raises ValueError where a value cannot be used."""

    #: What `iss` must be, exactly. Empty: `iss` is not checked, and this is the only issuer.
    issuer: str
    #: `aud` must name one of these. Empty: `aud` is not checked.
    audiences: tuple[str, ...]
    #: Where its keys are: `https://…`, `http://…` or `file:///…`.
    jwks_uri: str
    #: PEM file of the certificate authorities to trust for `jwks_uri`, in place of the system's.
    ca_file: str | None = None

    def __post_init__(self) -> None:
        if "" in self.audiences:
            raise ValueError("an audience must not be empty")
        uri = urlsplit(self.jwks_uri)
        if uri.scheme not in {"https", "http", "file"}:
            raise ValueError("the URI of a key set must begin with https://, http:// or file:///")
        if uri.scheme == "file":
            if uri.netloc not in {"", "localhost"} or not uri.path:
                raise ValueError("the file URI of a key set must be file:///absolute/path")
        elif not uri.hostname:
            raise ValueError("the URI of a key set must name a host")
        elif uri.username is not None or uri.password is not None:
            raise ValueError("the URI of a key set must not hold credentials")


@dataclass(frozen=True)
class AuthPolicy:
    """Which tokens are accepted. Raises ValueError where values cannot be used, or not together."""

    issuers: tuple[Issuer, ...]
    #: Narrows `ALGORITHMS`; None: all of them, as far as they fit the key.
    algorithms: tuple[str, ...] | None = None
    #: Claims that a token must have: equal to the value, or a list (or `scope` string) that holds it. Scalar values.
    required_claims: Mapping[str, object] = field(default_factory=dict)
    #: The claim that lists the models that the bearer may use: a list of strings, or one string with spaces between.
    #: A token without it may use none. None: every token may use every model.
    models_claim: str | None = None
    #: Seconds that `nbf` and `iat` may lie in the future. `exp` gets none: RFC 7519 section 4.1.4, "MUST NOT".
    clock_skew: float = 60.0
    #: Seconds that a key set is used after it was last fetched, while its provider is down.
    jwks_max_stale: float = 86400.0

    def __post_init__(self) -> None:
        names = [issuer.issuer for issuer in self.issuers]
        if not names:
            raise ValueError("at least one issuer is needed")
        if len(set(names)) != len(names):
            raise ValueError("two issuers must not have the same name")
        if "" in names and len(names) > 1:
            raise ValueError("an issuer without a name must be the only one")
        if self.algorithms is not None and (not self.algorithms or not set(self.algorithms) <= set(ALGORITHMS)):
            raise ValueError(f"algorithms must be some of {', '.join(ALGORITHMS)}")
        if not all(isinstance(value, str | int | float) for value in self.required_claims.values()):
            raise ValueError("the value of a required claim must be a string, a number or a boolean")
        if not (math.isfinite(self.clock_skew) and self.clock_skew >= 0):
            raise ValueError("the clock skew must be 0 seconds or more")
        if not (math.isfinite(self.jwks_max_stale) and self.jwks_max_stale >= MIN_MAX_STALE):
            raise ValueError(f"keys must stay usable for {MIN_MAX_STALE:.0f} seconds or more")
        # A frozen policy must not change through the mapping that it was made from.
        object.__setattr__(self, "required_claims", MappingProxyType(dict(self.required_claims)))


class Identity(msgspec.Struct, frozen=True):
    """Who sent a request, as a verified token says."""

    #: `sub`, or empty where the token names nobody.
    subject: str
    #: `iss`, or empty where the token has none and none is demanded.
    issuer: str
    #: All claims, as parsed. Not to be changed: the value is shared between requests.
    claims: Mapping[str, object]
    #: Models that may be used; None: all.
    models: frozenset[str] | None = None

    def may_use(self, model: str) -> bool:
        return self.models is None or model in self.models


class Pending:
    """Keys are being fetched that may decide. Await `wait`, then call `check` again with `final=True`."""

    __slots__ = ("_wait",)

    def __init__(self, wait: Callable[[], Awaitable[object]]) -> None:
        self._wait = wait

    async def wait(self) -> None:
        """Returns when the fetch has ended, well or badly: in bounded time. May be cancelled."""
        await self._wait()


class TokenChecker(Protocol):
    """What says who sent a request: `extproc.auth.jwt.Authenticator`."""

    def check(self, authorization: bytes | None, count: int, *, now: float, final: bool = False) -> Identity | Pending:
        """Check the one Authorization header of a request. A `Pending` is awaited, then asked again with `final=True`.

        Raises:
            Refusal: the request is refused.
        """
        ...
