"""The cheap part of a check: an Authorization header taken apart, before any key is looked at.

Nothing here is verified: what comes out is what an unknown somebody claims.
"""

from typing import NamedTuple

from extproc.auth.base import ALGORITHMS, Reason
from extproc.auth.encoding import ALPHABET, base64url, json_object

#: Bytes. Key ids are names or digests; the limit keeps look-ups and comparisons small.
MAX_KID = 256

SCHEME = b"bearer "

#: RFC 7515 section 4.1.11: what is not understood and critical "MUST" be refused, and no extension is understood here.
#: `b64` (RFC 7797) changes what is signed and has to be listed in `crit`; without that it is broken as well.
_CRITICAL = frozenset({"crit", "b64"})
#: A token has no business in choosing its key. `jku` is not among them but ignored, i.e. never fetched: SAP's and Cloud
#: Foundry's servers put it into every token.
_EMBEDDED = frozenset({"jwk", "x5c", "x5u"})
#: RFC 8725 section 3.11: a type `…+jwt` names the purpose of a JWT. Of those only RFC 9068's is an access token; others
#: (`logout+jwt`, `dpop+jwt`, `secevent+jwt`) may carry the same issuer, audience and signature, and open nothing here.
_ACCESS_TOKEN_TYPES = frozenset({"at+jwt", "application/at+jwt"})


class TokenError(Exception):
    """A token cannot be accepted, for `reason`."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Token(NamedTuple):
    """A JWT before verification."""

    algorithm: str
    kid: str | None
    claims: dict[str, object]
    signed: bytes
    signature: bytes


def bearer(authorization: bytes) -> bytes:
    """The token of an Authorization header. Raises TokenError.

    RFC 6750 section 2.1: `"Bearer" 1*SP b64token`, so any number of spaces between the two, and nothing after them.
    """
    if authorization[: len(SCHEME)].lower() != SCHEME:
        scheme = authorization.partition(b" ")[0]
        raise TokenError(Reason.MALFORMED if scheme.lower() == b"bearer" else Reason.WRONG_SCHEME)
    return authorization[len(SCHEME) :].lstrip(b" ")


def parse(token: bytes) -> Token:
    """Take a JWT in compact form apart and check its form and its header. Raises TokenError."""
    # Deleting the alphabet leaves the dots, and whatever should not be there.
    if token.translate(None, ALPHABET) != b"..":
        raise TokenError(Reason.MALFORMED)
    head, body, tail = token.split(b".")
    try:
        header = json_object(base64url(head))
        algorithm, kid = _header(header)
        return Token(algorithm, kid, json_object(base64url(body)), token[: -len(tail) - 1], base64url(tail))
    except ValueError:
        # Without the cause: it would quote the token.
        raise TokenError(Reason.MALFORMED) from None


def _header(header: dict[str, object]) -> tuple[str, str | None]:
    """Algorithm and key id. Raises TokenError."""
    names = header.keys()
    if not _CRITICAL.isdisjoint(names):
        raise TokenError(Reason.CRITICAL_HEADER)
    if not _EMBEDDED.isdisjoint(names):
        raise TokenError(Reason.EMBEDDED_KEY)
    algorithm, kid, kind = header.get("alg"), header.get("kid", ""), header.get("typ", "")
    if not isinstance(algorithm, str) or not isinstance(kid, str) or not isinstance(kind, str) or len(kid) > MAX_KID:
        raise TokenError(Reason.MALFORMED)
    if algorithm not in ALGORITHMS:
        raise TokenError(Reason.UNSUPPORTED_ALGORITHM)
    kind = kind.lower()
    if kind.endswith("+jwt") and kind not in _ACCESS_TOKEN_TYPES:
        raise TokenError(Reason.WRONG_TYPE)
    return algorithm, kid if "kid" in names else None
