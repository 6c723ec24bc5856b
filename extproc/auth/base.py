"""The words of authentication: what is configured, what can be wrong with a token, and what is known of its bearer."""

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

import msgspec

from extproc.protocol.headers import Headers

#: Every algorithm that a token may be signed with. All are asymmetric: a gateway that held a shared secret could sign
#: tokens itself, and `HS*` with a public key as the secret is the classic confusion.
#: `Ed25519` and `Ed448` are RFC 9864's names for the curves that `EdDSA` leaves open.
ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519", "Ed448",
)  # fmt: skip

#: Seconds. Less would turn one missed refresh of a key set into refusals.
MIN_MAX_STALE = 60.0

#: Bytes. Tokens with 200 groups come to 11 KiB; Envoy takes 60 KiB of headers.
MAX_TOKEN = 16 * 1024

#: Where clients of Anthropic's and of Azure's APIs put what others put into Authorization.
TOKEN_HEADERS = ("x-api-key", "api-key")


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
    #: A JWT made for another purpose, by its `typ`.
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
    #: What stands in the place of a token is no API key that is known here.
    UNKNOWN_API_KEY = "unknown_api_key"


@dataclass(frozen=True)
class Issuer:
    """Somebody whose tokens are accepted. Raises ValueError where a value cannot be used."""

    #: The exact value of `iss`. Empty: `iss` is not checked, and this is the only issuer.
    issuer: str
    #: `aud` must name one of these. Empty: `aud` is not checked.
    audiences: tuple[str, ...]
    #: Where its keys are: `https://…`, `http://…` or `file:///…`. Empty: the URI in its discovery document.
    jwks_uri: str
    #: PEM file of the certificate authorities to trust for `jwks_uri`, in place of the system's.
    ca_file: str | None = None
    #: File of a bearer token that is sent with every fetch.
    token_file: str | None = None
    #: Where its discovery document is, without the well-known path. Given without `jwks_uri`.
    oidc_issuer: str = ""

    def __post_init__(self) -> None:
        if "" in self.audiences:
            raise ValueError("an audience must not be empty")
        if self.oidc_issuer:
            if self.jwks_uri:
                raise ValueError("an issuer's keys are where its discovery document says, or at a URI, not both")
            check_oidc_issuer(self.oidc_issuer)
        else:
            check_jwks_uri(self.jwks_uri)


#: RFC 8414 and OpenID Connect Discovery 1.0, section 4: below an issuer, where its discovery document is.
WELL_KNOWN = ("/.well-known/openid-configuration", "/.well-known/oauth-authorization-server")


def check_jwks_uri(text: str) -> None:
    """Raises ValueError where `text` is no URI of a key set."""
    uri = urlsplit(text)
    if uri.scheme not in {"https", "http", "file"}:
        raise ValueError("the URI of a key set must begin with https://, http:// or file:///")
    if uri.scheme == "file":
        if uri.netloc not in {"", "localhost"} or not uri.path:
            raise ValueError("the file URI of a key set must be file:///absolute/path")
        return
    _check_host(uri)
    if uri.path.rstrip("/").endswith(WELL_KNOWN):
        raise ValueError("this is an issuer's discovery document, no key set: give the issuer as oidcIssuer")


def check_oidc_issuer(text: str) -> None:
    """Raises ValueError where `text` is no issuer whose discovery document could be fetched."""
    uri = urlsplit(text)
    if uri.scheme not in {"https", "http"}:
        raise ValueError("an issuer must begin with https:// or http://")
    _check_host(uri)
    if uri.query or uri.fragment or uri.path.rstrip("/").endswith(WELL_KNOWN):
        raise ValueError("an issuer is given without query and without /.well-known/…")


def _check_host(uri: SplitResult) -> None:
    if not uri.hostname:
        raise ValueError("the URI of a key set must name a host")
    if uri.username is not None or uri.password is not None:
        raise ValueError("the URI of a key set must not hold credentials")


@dataclass(frozen=True)
class AuthPolicy:
    """Which tokens are accepted. Raises ValueError where values cannot be used, or not together."""

    issuers: tuple[Issuer, ...]
    #: Narrows `ALGORITHMS`; None: all of them, as far as they fit the key.
    algorithms: tuple[str, ...] | None = None
    #: Claims that a token must have, by their paths: equal to the value, or a list (or `scope` string) that holds it.
    #: Scalar values; of several in a tuple, one.
    required_claims: Mapping[str, object] = field(default_factory=dict)
    #: Path of the claim that lists the models that the bearer may use: a list of strings, or one string with spaces
    #: between. A token without it may use none. None: every token may use every model.
    models_claim: str | None = None
    #: Seconds that `nbf` and `iat` may lie in the future. `exp` gets none: RFC 7519 section 4.1.4, "MUST NOT".
    clock_skew: float = 60.0
    #: Seconds that a key set is used after it was last fetched, while its provider is down.
    jwks_max_stale: float = 86400.0
    #: Most bytes of a token.
    max_token: int = MAX_TOKEN
    #: File of API keys; None: there are none.
    api_keys_file: str | None = None
    #: Headers (lower case) in which a token or an API key may be, where there is no Authorization header.
    token_headers: tuple[str, ...] = TOKEN_HEADERS

    def __post_init__(self) -> None:
        names = [issuer.issuer for issuer in self.issuers]
        if not names and self.api_keys_file is None:
            raise ValueError("at least one issuer is needed, or API keys")
        if len(set(names)) != len(names):
            raise ValueError("two issuers must not have the same name")
        if "" in names and len(names) > 1:
            raise ValueError("an issuer without a name must be the only one")
        if self.algorithms is not None and (not self.algorithms or not set(self.algorithms) <= set(ALGORITHMS)):
            raise ValueError(f"algorithms must be some of {', '.join(ALGORITHMS)}")
        values = [
            one for value in self.required_claims.values() for one in (value if type(value) is tuple else (value,))
        ]
        if not all(isinstance(value, str | int | float) for value in values):
            raise ValueError("the value of a required claim must be a string, a number or a boolean")
        if not (math.isfinite(self.clock_skew) and self.clock_skew >= 0):
            raise ValueError("the clock skew must be 0 seconds or more")
        if not (math.isfinite(self.jwks_max_stale) and self.jwks_max_stale >= MIN_MAX_STALE):
            raise ValueError(f"keys must stay usable for {MIN_MAX_STALE:.0f} seconds or more")
        # A frozen policy must not change through the mapping that it was made from.
        object.__setattr__(self, "required_claims", MappingProxyType(dict(self.required_claims)))


class Identity(msgspec.Struct, frozen=True):
    """The sender of a request, from a verified token."""

    #: `sub`, or empty where the token has none.
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


class CredentialChecker(Protocol):
    """Identifies the sender of a request: `extproc.auth.credentials.Credentials`."""

    #: Headers (lower case) that credentials may be in, beside Authorization.
    token_headers: tuple[str, ...]

    def check(self, headers: Headers, *, now: float, final: bool = False) -> Identity | Pending:
        """Check the credentials of a request. A `Pending` is awaited, then asked again with `final=True`.

        Raises:
            Refusal: the request is refused.
        """
        ...
