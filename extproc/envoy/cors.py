"""Envoy's CORS policy: what a browser's page of another origin may do."""

import re
from typing import Any

from extproc.config.sections.listener import CorsConfig


def policy(cors: CorsConfig | None) -> dict[str, Any]:
    """`envoy.extensions.filters.http.cors.v3.CorsPolicy`, for the filter's per-route configuration."""
    own: dict[str, Any] = {"@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy"}
    if cors is None:
        return own
    return own | {
        "allow_origin_string_match": [_origin(origin) for origin in cors.origins],
        "allow_methods": ", ".join(cors.methods),
        "allow_headers": ", ".join(cors.headers),
        "expose_headers": ", ".join(cors.expose_headers),
        "max_age": str(int(cors.max_age)),
        "allow_credentials": cors.credentials,
        # Else a preflight of another origin would be a request like any other, and need a token.
        "forward_not_matching_preflights": False,
    }


def _origin(origin: str) -> dict[str, Any]:
    if origin == "*":
        return {"safe_regex": {"regex": ".*"}}
    if "*" in origin:
        scheme, _, rest = origin.partition("*.")
        return {"safe_regex": {"regex": f"(?i){re.escape(scheme)}[a-z0-9.-]+[.]{re.escape(rest)}"}}
    return {"exact": origin, "ignore_case": True}
