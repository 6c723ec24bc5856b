"""How long a key set is fresh, and when to try again after a failure."""

import re

#: Seconds until the next fetch where the provider does not say.
DEFAULT_LIFETIME = 300.0
#: Seconds. A provider with a shorter lifetime (or `no-store`) is asked no more often than this …
MIN_LIFETIME = 30.0
#: … and one with a longer lifetime at least once a day: a revoked key must not work for longer.
MAX_LIFETIME = 86400.0
#: Seconds to the second attempt; doubled after each, up to `MAX_RETRY`.
FIRST_RETRY = 1.0
MAX_RETRY = 30.0

#: RFC 9111 section 5.2: names in any case, the value as a token or a quoted string.
_MAX_AGE = re.compile(r'(?:^|[,\s])max-age\s*=\s*"?(\d{1,10})"?\s*(?:,|$)', re.IGNORECASE | re.ASCII)
_UNCACHEABLE = re.compile(r"(?:^|[,\s])no-(?:store|cache)\s*(?:,|=|$)", re.IGNORECASE)
_AGE = re.compile(r"\s*(\d{1,10})\s*", re.ASCII)


def lifetime(cache_control: str, age: str, max_stale: float) -> float:
    """Seconds until a key set is to be fetched again, by the headers `Cache-Control` and `Age` of the answer.

    Never more than half of `max_stale`, so that a set that is refreshed in time never gets too old to be used.
    """
    seconds = DEFAULT_LIFETIME
    if _UNCACHEABLE.search(cache_control):
        seconds = 0.0
    elif found := _MAX_AGE.search(cache_control):
        spent = _AGE.fullmatch(age)
        seconds = float(found[1]) - (float(spent[1]) if spent else 0.0)
    return min(max(seconds, MIN_LIFETIME), MAX_LIFETIME, max_stale / 2)


def retry_delay(failures: int) -> float:
    """Seconds to wait after that many failures in a row (at least 1)."""
    # The exponent is bounded so that a provider that is down for weeks cannot overflow it.
    return min(FIRST_RETRY * 2.0 ** min(failures - 1, 16), MAX_RETRY)
