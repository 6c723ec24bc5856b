"""Authentication of clients: issuers of tokens, their keys, and the claims that count."""

import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from extproc.auth.base import (
    ALGORITHMS,
    MAX_TOKEN,
    TOKEN_HEADERS,
    AuthPolicy,
    Issuer,
    check_jwks_uri,
    check_oidc_issuer,
)
from extproc.config import fields, units
from extproc.config.fields import DAY, HOUR, AsTuple, Bytes, Seconds, Section, Text, Texts
from extproc.config.problems import nearest
from extproc.protocol import headers

#: Headers that Envoy, HTTP or this gateway live by: none may be replaced by a claim.
RESERVED_HEADERS = frozenset(
    {
        "connection", "content-encoding", "content-length", "content-type", "expect", "host", "keep-alive", "te",
        "trailer", "transfer-encoding", "upgrade",
        headers.AUTHORIZATION, headers.REQUEST_ID, headers.DESTINATION, headers.SERVED, headers.SUBSET,
    }
)  # fmt: skip
#: … and families of them.
RESERVED_PREFIXES = ("x-envoy-", "x-gateway-destination-")

# RFC 9110 section 5.6.2, in lower case.
_HEADER = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")


def jwks_uri(text: str) -> str:
    """An absolute http, https or file URI. Raises ValueError."""
    if not text:
        raise ValueError("must not be empty; to run without authentication, leave out `auth`")
    if re.search(r"[\x00-\x20\x7f]", text):
        raise ValueError(f"must not hold spaces or control characters, and {units.describe(text)} does")
    try:
        _ = urlsplit(text).port
        check_jwks_uri(text)
    except ValueError as error:
        raise ValueError(f"{error}, and {units.describe(text)} is no such URI") from None
    return text


def oidc_issuer(text: str) -> str:
    """An issuer with a discovery document. Raises ValueError."""
    if re.search(r"[\x00-\x20\x7f]", text):
        raise ValueError(f"must not hold spaces or control characters, and {units.describe(text)} does")
    try:
        _ = urlsplit(text).port
        check_oidc_issuer(text)
    except ValueError as error:
        raise ValueError(f"{error}, and {units.describe(text)} is no such issuer") from None
    return text


def is_exposed(uri: str) -> bool:
    """Whether keys from there cross a network that could change them."""
    parts = urlsplit(uri)
    return parts.scheme == "http" and not units.is_loopback(parts.hostname or "")


def algorithm(text: str) -> str:
    if text in ALGORITHMS:
        return text
    if text.upper().startswith("HS") or text.lower() == "none":
        raise ValueError(f'"{units.shorten(text)}" is never accepted: only {", ".join(ALGORITHMS)}')
    near = nearest(text, ALGORITHMS)
    hint = units.did_you_mean(near) if near else f" (known: {', '.join(ALGORITHMS)})"
    raise ValueError(f"is not an algorithm: {units.describe(text)}{hint}")


def identity_header(name: str) -> str:
    """The name of a header that may be set. Raises ValueError."""
    header = name.lower()
    if not _HEADER.fullmatch(header):
        raise ValueError(f"must be the name of a header, not {units.describe(name)}")
    if header in RESERVED_HEADERS or header.startswith(RESERVED_PREFIXES):
        raise ValueError("this header is reserved; take one of your own, such as x-user-id")
    return name


def lower_names(claims: dict[str, str]) -> dict[str, str]:
    """Names in lower case, as HTTP/2 has them. Raises ValueError where two differ in case only."""
    lowered = {name.lower(): claim for name, claim in claims.items()}
    if len(lowered) != len(claims):
        raise ValueError("names one header twice: upper and lower case make no difference")
    return lowered


def _allowed(value: object) -> object:
    """A scalar, or a list of some. Raises ValueError."""
    values = value if isinstance(value, list | tuple) else [value]
    if not values or any(one is None or isinstance(one, list | tuple | dict) for one in values):
        reason = "must be a string, a number, a boolean, or a list of some"
        raise ValueError(f"{reason}, not {units.describe(value) if values else 'an empty list'}")
    return tuple(values) if isinstance(value, list | tuple) else value


def token_header(name: str) -> str:
    """The name of a header that credentials may be in. Raises ValueError."""
    header = identity_header(name).lower()
    if "_" in header:
        raise ValueError("must be spelt with hyphens")
    return header


_JwksUri = Annotated[str, AfterValidator(jwks_uri)]
_OidcIssuer = Annotated[str, AfterValidator(oidc_issuer)]
_HeaderName = Annotated[str, AfterValidator(identity_header)]


class IssuerConfig(Section):
    """Somebody whose tokens are accepted."""

    issuer: Text | None = Field(
        default=None, description="JWT issuer: what a token's `iss` must be, exactly. Left out, `iss` is not checked."
    )
    audiences: Texts = Field(
        default=(), description="JWT audiences: a token's `aud` must name one of them. Left out, `aud` is not checked."
    )
    jwks_uri: _JwksUri | None = Field(
        default=None,
        description="Where the key set (JWKS) is: https://, http:// or file:///. Setting it turns authentication on.",
    )
    oidc_issuer: _OidcIssuer | None = Field(
        default=None,
        description="Issuer whose discovery document (/.well-known/openid-configuration) says where the key set is, in"
        " place of issuer and jwksUri. Setting it turns authentication on.",
    )
    ca_file: fields.FilePath | None = Field(
        default=None,
        description="PEM file of the certificate authorities trusted for the key set, in place of the system's.",
    )
    jwks_token_file: fields.FilePath | None = Field(
        default=None,
        description="File of a bearer token to fetch the key set with, such as that of a service account. Read for each"
        " fetch.",
    )

    def given(self) -> bool:
        """Whether the location of the keys is given."""
        return self.jwks_uri is not None or self.oidc_issuer is not None

    def of_policy(self, ca_file: str | None, token_file: str | None) -> Issuer:
        """As the checks know it. Raises ValueError."""
        return Issuer(
            issuer=self.issuer or self.oidc_issuer or "",
            audiences=self.audiences,
            jwks_uri=self.jwks_uri or "",
            ca_file=self.ca_file or ca_file,
            token_file=self.jwks_token_file or token_file,
            oidc_issuer=self.oidc_issuer or "",
        )


class ApiKeysConfig(Section):
    """API keys, for those without an identity provider. `infer-gateway api-key` makes one."""

    file: fields.FilePath = Field(
        description="YAML file of names and hashes, commonly of a Secret. Read again when it changes."
    )


class AuthConfig(IssuerConfig):
    """Authentication by JWT or API key. On when `jwksUri`, `oidcIssuer`, `issuers` or `apiKeys` is given."""

    issuers: Annotated[tuple[IssuerConfig, ...], AsTuple, Field(min_length=1)] | None = Field(
        default=None,
        description="Several issuers, in place of issuer, audiences and jwksUri; each needs a name of its own.",
    )
    algorithms: (
        Annotated[tuple[Annotated[str, AfterValidator(algorithm)], ...], AsTuple, Field(min_length=1)] | None
    ) = Field(
        default=None,
        description="Signature algorithms that are accepted. Left out: all asymmetric ones, as they fit the key.",
    )
    api_keys: ApiKeysConfig | None = Field(default=None, description="API keys, beside tokens or in place of them.")
    token_headers: Annotated[tuple[Annotated[str, AfterValidator(token_header)], ...], AsTuple] = Field(
        default=TOKEN_HEADERS,
        description="Headers in which a token or an API key may be too, without `Bearer`. Looked at in this order,"
        " where there is no Authorization header.",
    )
    max_token_bytes: Annotated[int, Bytes(1 << 10, 48 << 10)] = Field(
        default=MAX_TOKEN, description="Longest token. What is longer gets a 431."
    )
    required_claims: dict[str, Annotated[Any, AfterValidator(_allowed)]] = Field(
        default={},
        description="Claims that a token must have: equal to the value (of a list, to one of its values), or a list (or"
        " `scope` string) that holds it. With dots, a claim inside of others: realm_access.roles.",
    )
    models: Text | None = Field(
        default=None,
        description="Claim (with dots: inside of others) that lists the models that the bearer may use. A token without"
        " it may use none."
        " Left out, every token may use every model.",
    )
    clock_skew: Annotated[float, Seconds(0, HOUR)] = Field(
        default=60.0, description="How far `nbf` and `iat` may lie in the future. `exp` gets no such grace."
    )
    jwks_max_stale: Annotated[float, Seconds(60, 30 * DAY)] = Field(
        default=DAY, description="How long a key set is used after it was last fetched, while its provider is down."
    )
    forward_token: bool = Field(
        default=False, description="Whether model servers get the Authorization header. false: it is removed."
    )
    identity_headers: Annotated[dict[_HeaderName, Text], AfterValidator(lower_names)] = Field(
        default={},
        description="Headers that tell model servers who is asking: header name → claim (with dots: inside of others)."
        " What a client sends under such a name is removed.",
    )

    def policy(self) -> AuthPolicy | None:
        """None: authentication is off.

        Raises:
            ValueError: the values cannot be used together. Never for a configuration that came from `load`.
        """
        named = self.issuers or ((self,) if self.given() else ())
        if not named and self.api_keys is None:
            return None
        return AuthPolicy(
            issuers=tuple([one.of_policy(self.ca_file, self.jwks_token_file) for one in named]),
            algorithms=self.algorithms,
            required_claims=self.required_claims,
            models_claim=self.models,
            clock_skew=self.clock_skew,
            jwks_max_stale=self.jwks_max_stale,
            max_token=self.max_token_bytes,
            api_keys_file=None if self.api_keys is None else self.api_keys.file,
            token_headers=self.token_headers,
        )
