"""What `GET /v1/models` answers: names of routes, else what the pods list, as far as a token may use them."""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime

import msgspec

from extproc.auth.base import Identity
from extproc.errors import Refusal, model_not_found
from extproc.parsers.select import path_of
from extproc.protocol.headers import METHOD, PATH, Headers
from extproc.routing.routes import Routes

#: Of the list, and, followed by a slash and a name, of one model. llama.cpp has the second as well.
_PATHS = ("/v1/models", "/models")
_METHODS = frozenset({"GET", "HEAD"})
#: Seconds until a client may ask again: pods are asked twice a second until one has answered.
_RETRY_AFTER = "1"
_OWNER = "infer-gateway"


class Catalogue:
    """Names of models. One thread only.

    Args:
        pool: whose pods are asked where there are no routes.
        started: seconds since the epoch, reported as each model's creation time.
    """

    __slots__ = ("_listed", "_pool", "_started")

    def __init__(self, pool: str, started: float) -> None:
        self._pool = pool
        self._started = int(started)
        self._listed: dict[str, tuple[str, ...]] = {}

    def told(self, pool: str, names: Iterable[str]) -> None:
        """Sets the models that a pool's pods list. While no pod answers, pass the last known models."""
        self._listed[pool] = tuple(dict.fromkeys(names))

    def answer(self, headers: Headers, identity: Identity | None, routes: Routes | None) -> bytes | None:
        """The body of the answer; None: the request asks for something else.

        Raises:
            Refusal: 404, there is no such model, or not for this token; 503, nothing is known yet.
        """
        if headers.get(METHOD) not in _METHODS:
            return None
        path = path_of(headers.get(PATH))
        root = next((root for root in _PATHS if path == root or path.startswith(f"{root}/")), None)
        if root is None:
            return None
        names = self._names(routes)
        if names is None:
            raise Refusal(
                503,
                "No model server has listed its models yet.",
                code="models_unknown",
                type="service_unavailable_error",
                headers={"retry-after": _RETRY_AFTER},
            )
        allowed = [name for name in names if identity is None or identity.may_use(name)]
        as_anthropic = headers.raw("anthropic-version") is not None
        if path == root:
            return self._list(allowed, as_anthropic=as_anthropic)
        name = path[len(root) + 1 :]
        if name not in allowed:
            raise model_not_found(name)
        return msgspec.json.encode(self._one(name, as_anthropic=as_anthropic))

    def _names(self, routes: Routes | None) -> Collection[str] | None:
        if routes is None:
            return self._listed.get(self._pool)
        names = dict.fromkeys(routes.names())
        for target in () if routes.others is None else routes.others.targets:
            # Under a name of its own, the pods' names lead to that one model.
            names |= dict.fromkeys(() if target.model else self._listed.get(target.pool, ()))
        return names if names or routes.others is None else None

    def _list(self, names: list[str], *, as_anthropic: bool) -> bytes:
        data = [self._one(name, as_anthropic=as_anthropic) for name in names]
        if as_anthropic:
            first, last = (names[0], names[-1]) if names else (None, None)
            return msgspec.json.encode({"data": data, "has_more": False, "first_id": first, "last_id": last})
        return msgspec.json.encode({"object": "list", "data": data})

    def _one(self, name: str, *, as_anthropic: bool) -> dict[str, object]:
        if as_anthropic:
            at = datetime.fromtimestamp(self._started, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            return {"type": "model", "id": name, "display_name": name, "created_at": at}
        return {"id": name, "object": "model", "created": self._started, "owned_by": _OWNER}


def listed(data: bytes) -> list[str]:
    """The names in a pod's own answer. Raises ValueError where it is none."""
    page = msgspec.json.decode(data, type=_Page)
    return [model.id for model in page.data if model.id]


class _Model(msgspec.Struct):
    id: str


class _Page(msgspec.Struct):
    data: list[_Model]
