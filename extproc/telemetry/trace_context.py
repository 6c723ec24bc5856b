"""W3C trace context: which requests get spans, and the parent that their engine's spans hang under. Pure.

https://www.w3.org/TR/trace-context/#traceparent-header: `00-<32 hex>-<16 hex>-<2 hex>`, the last bit being "sampled".
"""

import re
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from random import Random

_HEADER = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16


class TraceContext(msgspec.Struct, frozen=True):
    """The span of one request, which is sampled."""

    #: 32 hexadecimal digits: the client's, or of our own.
    trace: str
    #: 16 hexadecimal digits: the client's span; empty where there is none.
    parent: str
    #: 16 hexadecimal digits: the gateway's span.
    span: str

    @property
    def header(self) -> str:
        """`traceparent` for the pod: its engine's spans hang under the gateway's."""
        return f"00-{self.trace}-{self.span}-01"


class Sampler:
    """Decides which requests get spans.

    Args:
        ratio: share (0-1) of the requests without trace context. Those with one follow its flag.
        rng: for the share, and for new identifiers.
    """

    def __init__(self, ratio: float, rng: "Random") -> None:
        self._ratio = ratio
        self._rng = rng

    def begin(self, traceparent: str) -> TraceContext | None:
        """The span of a request with that header (empty: none); None: no span, and the header goes on as it is."""
        found = _HEADER.fullmatch(traceparent)
        if found is not None and found[1] != _NO_TRACE and found[2] != _NO_SPAN:
            return TraceContext(found[1], found[2], self._id(64)) if int(found[3], 16) & 1 else None
        if self._rng.random() >= self._ratio:
            return None
        # A header that is none begins a new trace, as section 3.2 of the recommendation has it.
        return TraceContext(self._id(128), "", self._id(64))

    def _id(self, bits: int) -> str:
        # 0 is no identifier.
        return f"{self._rng.getrandbits(bits) or 1:0{bits // 4}x}"
