"""Our bootstrap made into that of somebody else's gateway: it has no filters of ours, and shows what those show."""

from typing import Any

import yaml

#: Processing modes of such a gateway, by the name of the body mode.
MODES = {
    "BUFFERED": {
        "request_header_mode": "SEND",
        "request_body_mode": "BUFFERED",
        "request_trailer_mode": "SKIP",
        "response_header_mode": "SEND",
        "response_body_mode": "STREAMED",
        "response_trailer_mode": "SKIP",
    },
    "FULL_DUPLEX_STREAMED": {
        "request_header_mode": "SEND",
        "request_body_mode": "FULL_DUPLEX_STREAMED",
        "request_trailer_mode": "SEND",
        "response_header_mode": "SEND",
        "response_body_mode": "FULL_DUPLEX_STREAMED",
        "response_trailer_mode": "SEND",
    },
}


def foreign(
    bootstrap: str, mode: str, *, filters: list[Any] | None = None, strip: bool = False, guard: bool = True
) -> str:
    """The bootstrap of a gateway whose ext_proc has that body mode.

    Args:
        bootstrap: ours, rendered.
        mode: a key of `MODES`.
        filters: HTTP filters that come before ext_proc.
        guard: whether our filter stays that lets nothing pass undecided.
        strip: whether headers that clients may not send are taken out, as only our own bootstrap does it.
    """
    document = yaml.safe_load(bootstrap)
    manager = document["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"] = [
        one for one in manager["http_filters"] if not one["name"].endswith(("header_mutation", "ai_protocol_manager"))
    ]
    if not guard:
        manager["http_filters"] = [one for one in manager["http_filters"] if not one["name"].endswith("rbac")]
    del manager["access_log"]
    if not strip:
        del manager["early_header_mutation_extensions"]
    processor = manager["http_filters"][0]["typed_config"]
    # Envoy: failure_mode_allow cannot be had with bodies that it does not keep.
    processor["failure_mode_allow"] = False
    processor["processing_mode"] = MODES[mode]
    # Theirs: everything but what routes a request may be changed.
    del processor["mutation_rules"]
    manager["http_filters"][:0] = filters or []
    return yaml.safe_dump(document)


def full_duplex(bootstrap: str) -> str:
    """A gateway that shows everything and keeps nothing, as conformant ones do."""
    return foreign(bootstrap, "FULL_DUPLEX_STREAMED")
