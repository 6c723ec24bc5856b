"""Header and metadata names, and the headers of a message as Envoy gave them."""

from collections.abc import Iterable, Iterator

#: Endpoint Picker Protocol v1.0.0: the destination, as request header and as dynamic metadata, one value for both.
DESTINATION = "x-gateway-destination-endpoint"
DESTINATION_NAMESPACE = "envoy.lb"
#: … the endpoint that really served, told by the data plane in the response phase.
SERVED = "x-gateway-destination-endpoint-served"
#: … the endpoints that the data plane allows.
SUBSET = "x-gateway-destination-endpoint-subset"
SUBSET_NAMESPACE = "envoy.lb.subset_hint"

#: Dynamic metadata of this gateway's own: the key by which a request is found again in Envoy's access log, and whether
#: its outcome was told on its own stream already (envoy/gateway.yaml logs those only for which it was not).
OWN_NAMESPACE = "infer-gateway"
#: Where Envoy's stable filters put the counts of an answer (envoy/gateway.yaml).
USAGE_NAMESPACE = "infer-gateway.usage"
KEY = "key"
#: The decision in words, which Envoy puts into the response header `DEBUG`, if the request had the header `DEBUG: true`
#: and the configuration allows it.
EXPLANATION = "explanation"
DEBUG = "x-gateway-debug"
TOLD = "told"

REQUEST_ID = "x-request-id"
TRACEPARENT = "traceparent"
AUTHORIZATION = "authorization"
METHOD = ":method"
PATH = ":path"
STATUS = ":status"
CONTENT_TYPE = "content-type"

JSON_TYPE = "application/json"


class Headers:
    """Headers in their order, names in lower case as HTTP/2 has them. Look-ups take lower-case names."""

    __slots__ = ("_first", "_items")

    def __init__(self, items: Iterable[tuple[str, bytes]] = ()) -> None:
        self._items = items if isinstance(items, list) else list(items)
        self._first: dict[str, bytes] | None = None

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def raw(self, name: str) -> bytes | None:
        """The first value of that name, or None."""
        if self._first is None:
            # Reversed, so that the first of equal names is the one that stays.
            self._first = dict(reversed(self._items))
        return self._first.get(name)

    def get(self, name: str, default: str = "") -> str:
        """The first value of that name as text (latin-1: any bytes have one), or `default`."""
        value = self.raw(name)
        return default if value is None else value.decode("latin-1")

    def count(self, name: str) -> int:
        return sum(1 for key, _ in self._items if key == name)
