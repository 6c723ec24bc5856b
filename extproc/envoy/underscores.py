"""Headers with underscores: what some servers read as the same name with hyphens.

Envoy lets them in. Names of the gateway's own go in every spelling before any filter looks at a request; the others go
before the request leaves, unless model servers are to have them.
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from extproc.protocol.headers import CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, REQUEST_ID

#: What Envoy and HTTP live by: with underscores it would be another value of the same name to such a server.
_HTTP = (CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, "transfer-encoding", REQUEST_ID)
_HTTP_PREFIXES = ("x-forwarded-",)


def removals(names: Iterable[str], prefixes: Iterable[str], *, forwarded: bool) -> str:
    """Mutations, as JSON: what is taken out of every request before any filter, in any spelling.

    Args:
        names: of headers.
        prefixes: what families of headers begin with.
        forwarded: whether model servers get headers with underscores.
    """
    known = [_any_spelling(prefix) + ".*" for prefix in prefixes] + [_any_spelling(name) for name in names]
    if forwarded:
        known += [_underscored(name) for name in _HTTP] + [_underscored(prefix) for prefix in _HTTP_PREFIXES]
    return json.dumps([{"remove_on_match": {"key_matcher": {"safe_regex": {"regex": "|".join(known)}}}}])


def drop(kept: Sequence[str]) -> str:
    """Mutations, as JSON: headers with underscores go, but those that the sidecar set.

    A header that is to stay is moved out of the way meanwhile.

    Args:
        kept: names that the sidecar sets.
    """
    own = [name for name in kept if "_" in name]
    away = [f"x-gateway-kept-{number}" for number in range(len(own))]
    return json.dumps(
        [
            *[_copy(name, other) for name, other in zip(own, away, strict=True)],
            {"remove_on_match": {"key_matcher": {"contains": "_"}}},
            *[_copy(other, name) for name, other in zip(own, away, strict=True)],
            *[{"remove": other} for other in away],
        ]
    )


def _copy(source: str, target: str) -> dict[str, Any]:
    header = {"key": target, "value": f"%REQ({source})%"}
    return {"append": {"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}


def _any_spelling(name: str) -> str:
    return "[-_]".join(map(re.escape, re.split("[-_]", name)))


def _underscored(name: str) -> str:
    """All spellings with an underscore; of what ends with a hyphen, also of what follows."""
    parts = name.split("-")
    ways = ["[-_]".join(parts[:at]) + "_" + "[-_]".join(parts[at:]) for at in range(1, len(parts))]
    return f"(?:{'|'.join(ways)})" + (".*" if name.endswith("-") else "")
