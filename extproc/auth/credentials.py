"""The credentials of a request: which header they are in, and whether they are a token or an API key."""

from typing import Protocol

from extproc.auth.apikeys import ApiKeys
from extproc.auth.base import Identity, Pending, Reason
from extproc.auth.jwt import Authenticator, refusal
from extproc.auth.token import SCHEME
from extproc.protocol.headers import AUTHORIZATION, Headers


class KeyRing(Protocol):
    """Where API keys come from: `extproc.auth.key_file.ApiKeyFile`."""

    keys: ApiKeys | None


class Credentials:
    """Identifies the sender of a request. A `CredentialChecker`.

    Args:
        tokens: checks JWTs.
        api_keys: None: there are none.
        token_headers: headers (lower case) that are looked at, in this order, where there is no Authorization header.
        jwts: whether there are issuers; else everything is an API key.
    """

    __slots__ = ("_api_keys", "_jwts", "_tokens", "token_headers")

    def __init__(
        self,
        tokens: Authenticator,
        *,
        api_keys: KeyRing | None = None,
        token_headers: tuple[str, ...] = (),
        jwts: bool = True,
    ) -> None:
        self._tokens = tokens
        self._api_keys = api_keys
        self._jwts = jwts
        self.token_headers = token_headers

    def check(self, headers: Headers, *, now: float, final: bool = False) -> Identity | Pending:
        """Check the credentials of a request; see `Authenticator.check`.

        Raises:
            Refusal: 401, 403, 431 or 503. Its `detail` is a `Reason`.
        """
        name = AUTHORIZATION
        value = headers.raw(name)
        if value is None:
            for other in self.token_headers:
                given = headers.raw(other)
                if given is not None:
                    name, value = other, SCHEME + given
                    break
        count = headers.count(name)
        if self._api_keys is not None and value is not None and count == 1 and self._is_api_key(value):
            return self._known(self._api_keys, value[len(SCHEME) :].lstrip(b" "), now)
        return self._tokens.check(value, count, now=now, final=final)

    def _is_api_key(self, value: bytes) -> bool:
        """Whether a key is given, not a JWT: those have two dots."""
        return value[: len(SCHEME)].lower() == SCHEME and not (self._jwts and value.count(b".") == 2)

    def _known(self, ring: KeyRing, text: bytes, now: float) -> Identity:
        keys = ring.keys
        if keys is None:
            raise refusal(Reason.KEYS_UNAVAILABLE)
        key = keys.find(text)
        if key is None:
            raise refusal(Reason.UNKNOWN_API_KEY)
        if now >= key.expires:
            raise refusal(Reason.EXPIRED)
        return key.identity
