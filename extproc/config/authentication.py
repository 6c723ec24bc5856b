"""The words of the `auth` section that need more than a type."""

import re
from urllib.parse import urlsplit

from extproc.auth.base import ALGORITHMS, Issuer
from extproc.config import units
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
