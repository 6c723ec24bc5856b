# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""Header and metadata names, and the headers of a message as Envoy gave them."""

from collections.abc import Collection, Iterable, Iterator

#: Endpoint Picker Protocol v1.0.0: the destination, as request header and as dynamic metadata, one value for both.
DESTINATION = "x-gateway-destination-endpoint"
DESTINATION_NAMESPACE = "envoy.lb"
#: Beside it, in metadata alone: the pool. It keeps Envoy's own choice, when none of the pods is left, to that pool.
POOL = "x-gateway-pool"
#: … the endpoint that really served, sent by the data plane in the response phase.
SERVED = "x-gateway-destination-endpoint-served"
#: … the endpoints that the data plane allows.
SUBSET = "x-gateway-destination-endpoint-subset"
SUBSET_NAMESPACE = "envoy.lb.subset_hint"

#: Dynamic metadata of this gateway's own: the key by which a request is found again in Envoy's access log.
OWN_NAMESPACE = "infer-gateway"
KEY = "key"
#: The decision in words, which Envoy puts into the response header `DEBUG`, if the request had the header `DEBUG: true`
#: and the configuration allows it.
EXPLANATION = "explanation"
#: Marks a request that the sidecar let in, before it has decided where to.
ADMITTED = "admitted"
DEBUG = "x-gateway-debug"

REQUEST_ID = "x-request-id"
TRACEPARENT = "traceparent"
AUTHORIZATION = "authorization"
COOKIE = "cookie"
METHOD = ":method"
PATH = ":path"
STATUS = ":status"
CONTENT_ENCODING = "content-encoding"
CONTENT_LENGTH = "content-length"
CONTENT_TYPE = "content-type"
FORWARDED_FOR = "x-forwarded-for"

JSON_TYPE = "application/json"

#: Engines with prefill and decode apart: the pod that computes the prompt.
PREFILLER = "x-prefiller-host-port"
#: Headers that steer pickers and engines, by the reference endpoint picker's names, old and new: for whom and how
#: urgent a request is, which model it becomes, its goals for latency. From clients they are ignored and removed …
CONTROL_PREFIXES = ("x-gateway-inference-", "x-gateway-model-name-rewrite", "x-llm-d-", "x-smg-")
#: … least of all these, which let engines connect to where they say.
CONTROL_NAMES = (
    PREFILLER, "x-encoder-hosts-ports", "x-data-parallel-host-port", "x-kv-cache-source-host-port",
    "x-data-parallel-rank", "x-slo-ttft-ms", "x-slo-tpot-ms",
)  # fmt: skip
_CONTROL_NAMES = frozenset(CONTROL_NAMES)
_CONTROL_PREFIXES = (f"{DESTINATION}-", *CONTROL_PREFIXES)


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

    def cookie(self, name: str) -> str | None:
        """The first cookie of that name as text (latin-1), or None. Names of cookies have upper and lower case."""
        wanted = name.encode("latin-1", "replace")
        for header, value in self._items:
            # RFC 9113 section 8.2.3: over HTTP/2 cookies may come in fields of their own.
            if header == COOKIE:
                for pair in value.split(b";"):
                    key, equals, text = pair.partition(b"=")
                    if equals and key.strip() == wanted:
                        return text.strip().decode("latin-1")
        return None

    def control(self, others: Collection[str] = ()) -> tuple[str, ...]:
        """The names here that are control headers, or one of `others`, in whichever spelling. Each once.

        Args:
            others: with hyphens for underscores.
        """
        found = []
        for name, _ in self._items:
            plain = name.replace("_", "-") if "_" in name else name
            if plain == DESTINATION and name != plain:
                # Under its own name it is set by the decision, or removed with the headers.
                found.append(name)
            elif plain in _CONTROL_NAMES or plain in others or plain.startswith(_CONTROL_PREFIXES):
                found.append(name)
        return tuple(dict.fromkeys(found))

    def count(self, name: str) -> int:
        if self._first is not None and len(self._first) == len(self._items):
            return 1 if name in self._first else 0  # no name is there twice
        return sum(1 for key, _ in self._items if key == name)
