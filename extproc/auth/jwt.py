# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""Checks the bearer token of a request. Cheap checks come before expensive ones, and no check depends on a guess.

The signature is PyJWT's and cryptography's work. Form, header and claims are checked here, since PyJWT lets pass what
this gateway must not: dates as strings, tokens without `exp`, names that come twice.
"""

from collections.abc import Sequence
from hashlib import blake2b
from types import MappingProxyType

from extproc.auth.base import ALGORITHMS, AuthPolicy, Identity, Pending, Reason
from extproc.auth.cache import REFUSED_FOR, VerdictCache
from extproc.auth.claims import check_audience, check_subject, check_times, has, models
from extproc.auth.keys import KeySet, KeySource, verify
from extproc.auth.token import SCHEME, Token, TokenError, bearer, parse
from extproc.auth.verdicts import Accepted, Refused
from extproc.errors import Refusal, auth_unavailable, forbidden, token_too_large, unauthorized

#: Time or new keys make these right at any moment, so they are not remembered.
_PASSING = frozenset({Reason.NOT_YET_VALID, Reason.UNKNOWN_KEY, Reason.KEYS_UNAVAILABLE})
#: No credentials of the right kind were sent: RFC 6750 section 3.1 wants no error code then.
_NO_CREDENTIALS = frozenset({Reason.MISSING, Reason.WRONG_SCHEME})


class Authenticator:
    """Identifies the sender of a request.

    Args:
        policy: which tokens are accepted.
        sources: the keys of each of `policy.issuers`, in that order.
        cache: verdicts kept; one of its own by default.
    """

    __slots__ = ("_algorithms", "_audiences", "_cache", "_longest", "_policy", "_required", "_sources")

    def __init__(self, policy: AuthPolicy, sources: Sequence[KeySource], *, cache: VerdictCache | None = None) -> None:
        self._policy = policy
        self._sources = {issuer.issuer: source for issuer, source in zip(policy.issuers, sources, strict=True)}
        self._audiences = {issuer.issuer: frozenset(issuer.audiences) for issuer in policy.issuers}
        self._algorithms = frozenset(ALGORITHMS if policy.algorithms is None else policy.algorithms)
        if "EdDSA" in self._algorithms:
            # RFC 9864: the new names include the curve, which only the key had before.
            self._algorithms |= {"Ed25519", "Ed448"}
        self._longest = len(SCHEME) + policy.max_token
        self._required = tuple(policy.required_claims.items())
        self._cache = VerdictCache() if cache is None else cache

    def check(self, authorization: bytes | None, count: int, *, now: float, final: bool = False) -> Identity | Pending:
        """Check the one Authorization header of a request.

        A `Pending` means that newer keys may decide: await its `wait()`, then call again with `final=True`, which
        never gives another one.

        Args:
            authorization: the header's value as received, or None.
            count: how many Authorization headers the request has.
            now: wall clock, seconds since the epoch.
            final: refuse where the keys at hand do not decide.

        Raises:
            Refusal: 401, 403, 431 or 503. Its `detail` is a `Reason`.
        """
        if authorization is None or count != 1:
            raise refusal(Reason.REPEATED_HEADER if count > 1 else Reason.MISSING)
        if len(authorization) > self._longest:
            raise token_too_large(self._policy.max_token, Reason.TOO_LARGE.value)
        # The digest stands for the token, so that no token stays in memory.
        digest = blake2b(authorization, digest_size=32).digest()
        known = self._cache.get(digest, now)
        if known is None:
            return self._decide(authorization, digest, now, final=final)
        if isinstance(known, Reason):
            raise refusal(known)
        return known

    def _decide(self, authorization: bytes, digest: bytes, now: float, *, final: bool) -> Identity | Pending:
        source: KeySource | None = None
        try:
            token = parse(bearer(authorization))
            issuer, expiry = self._check_claims(token, now)
            source = self._sources[issuer]
            keys = _verified(token, source, now, final=final)
            if isinstance(keys, Pending):
                return keys
            # Only now is it known that the claims are the issuer's: a 403 is for genuine tokens alone.
            identity = self._authorize(token)
        except TokenError as error:
            if error.reason not in _PASSING:
                used = None if source is None else source.current(now)
                self._cache.refuse(digest, Refused(error.reason, now + REFUSED_FOR, source, used))
            raise refusal(error.reason) from None
        self._cache.accept(digest, Accepted(identity, expiry, source, keys))
        return identity

    def _check_claims(self, token: Token, now: float) -> tuple[str, float]:
        """The configured issuer that the token claims to be from, and its `exp`. Raises TokenError."""
        claims = token.claims
        if token.algorithm not in self._algorithms:
            raise TokenError(Reason.UNSUPPORTED_ALGORITHM)
        issuer = claims.get("iss", "")
        if not isinstance(issuer, str):
            raise TokenError(Reason.MALFORMED)
        # An issuer without a name is the only one, and takes any `iss`; elsewhere no `iss` is no issuer's.
        if "" in self._sources:
            issuer = ""
        elif issuer not in self._sources:
            raise TokenError(Reason.WRONG_ISSUER)
        check_subject(claims)
        check_audience(claims, self._audiences[issuer])
        return issuer, check_times(claims, now=now, clock_skew=self._policy.clock_skew)

    def _authorize(self, token: Token) -> Identity:
        """The bearer of a verified token. Raises TokenError."""
        claims = token.claims
        if not all(has(claims, name, value) for name, value in self._required):
            raise TokenError(Reason.MISSING_CLAIM)
        allowed = None if self._policy.models_claim is None else models(claims, self._policy.models_claim)
        return Identity(check_subject(claims), str(claims.get("iss", "")), MappingProxyType(claims), allowed)


def refusal(reason: Reason) -> Refusal:
    """The answer to a request that is refused for `reason`."""
    if reason is Reason.MISSING_CLAIM:
        return forbidden("The bearer token does not grant access.", detail=reason.value)
    if reason is Reason.KEYS_UNAVAILABLE:
        return auth_unavailable(reason.value)
    return unauthorized(reason.value, missing=reason in _NO_CREDENTIALS)


def _verified(token: Token, source: KeySource, now: float, *, final: bool) -> KeySet | Pending:
    """The keys that the signature is good by. Raises TokenError."""
    keys = source.current(now)
    if keys is None:
        reason = Reason.KEYS_UNAVAILABLE
    else:
        found = _check_signature(token, keys)
        if found is None:
            return keys
        reason = found
    # A key that is named and known does not change; else the issuer may have one since that decides otherwise.
    if not final and (reason in _PASSING or token.kid is None):
        pending = source.refresh(now)
        if pending is not None:
            return pending
    raise TokenError(reason)


def _check_signature(token: Token, keys: KeySet) -> Reason | None:
    """Why the signature is not accepted; None where it is good."""
    fitting = keys.fitting(token.kid, token.algorithm)
    for key in fitting:
        if verify(token.algorithm, key, token.signed, token.signature):
            return None
    if token.kid is None:
        return Reason.BAD_SIGNATURE
    if not keys.knows(token.kid):
        return Reason.UNKNOWN_KEY
    return Reason.BAD_SIGNATURE if fitting else Reason.UNSUPPORTED_ALGORITHM
