"""Models that are named by a request's path or query, not by its body."""

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

#: Paths of which the names are kept, as in `select`.
MAX_CACHED_PATHS = 64
#: Characters of a query that is looked at.
MAX_QUERY = 8192

_PATHS = (
    # Azure OpenAI: the deployment. Envoy sends these on as /v1/….
    re.compile(r"/openai/deployments/([^/]+)/.+"),
    # KServe and Triton.
    re.compile(r"/v2/models/([^/]+)(?:/versions/[^/]+)?/(?:infer|generate|generate_stream|ready|config|stats)"),
    # Gemini.
    re.compile(r"/v1(?:alpha|beta)?\d*/models/(.+):[A-Za-z]+"),
    # OpenAI's of old.
    re.compile(r"/v1/engines/([^/]+)/.+"),
    # Bedrock.
    re.compile(r"/model/([^/]+)/(?:invoke|converse)(?:-[a-z-]+)?"),
)


class Named(NamedTuple):
    """What a path and its query say. Empty: nothing."""

    path: str = ""
    query: str = ""
    #: Whether values in the query contradict each other.
    unclear: bool = False


_NOTHING = Named()


@lru_cache(maxsize=MAX_CACHED_PATHS)
def named_in(target: str) -> Named:
    """The models that a path with its query names."""
    path, _, query = target.partition("?")
    found = ""
    for pattern in _PATHS:
        match = pattern.fullmatch(path)
        if match is not None:
            found = unquote(match[1])
            break
    if not query or "model" not in (unquote(query) if "%" in query else query):
        return Named(found) if found else _NOTHING
    if len(query) > MAX_QUERY:
        return Named(found, "", unclear=True)
    values = [value for name, value in parse_qsl(query, keep_blank_values=True) if name == "model"]
    return Named(found, values[-1] if values else "", unclear=len(set(values)) > 1)
