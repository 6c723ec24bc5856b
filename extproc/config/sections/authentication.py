"""Who may ask: issuers of tokens, their keys, and the claims that count."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from extproc.auth.base import ALGORITHMS, AuthPolicy, Issuer
from extproc.config import fields, units
from extproc.config.fields import DAY, HOUR, AsTuple, Seconds, Section, Text, Texts
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
        Issuer(issuer="", audiences=(), jwks_uri=text)
    except ValueError as error:
        raise ValueError(f"{error}, and {units.describe(text)} is no such URI") from None
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


_JwksUri = Annotated[str, AfterValidator(jwks_uri)]
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
    ca_file: fields.FilePath | None = Field(
        default=None,
        description="PEM file of the certificate authorities trusted for jwksUri, in place of the system's.",
    )


class AuthConfig(IssuerConfig):
    """Authentication by JWT. On when `jwksUri` (or `issuers`) is given."""

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
    required_claims: dict[str, fields.Scalar] = Field(
        default={},
        description="Claims that a token must have: equal to the value, or a list (or `scope` string) that holds it.",
    )
    models: Text | None = Field(
        default=None,
        description="Claim that lists the models that the bearer may use. A token without it may use none."
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
        description="Headers that tell model servers who is asking: header name → claim."
        " What a client sends under such a name is removed.",
    )

    def policy(self) -> AuthPolicy | None:
        """None: authentication is off.

        Raises:
            ValueError: the values cannot be used together. Never for a configuration that came from `load`.
        """
        if self.jwks_uri is None and not self.issuers:
            return None
        return AuthPolicy(
            issuers=tuple(
                Issuer(one.issuer or "", one.audiences, one.jwks_uri or "", one.ca_file or self.ca_file)
                for one in self.issuers or (self,)
            ),
            algorithms=self.algorithms,
            required_claims=self.required_claims,
            models_claim=self.models,
            clock_skew=self.clock_skew,
            jwks_max_stale=self.jwks_max_stale,
        )
