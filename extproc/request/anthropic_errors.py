"""Refusals in the shape of Anthropic's API, for its clients."""

from typing import Final

import msgspec

from extproc.errors import Refusal
from extproc.parsers.select import path_of
from extproc.protocol.headers import PATH, Headers

#: Every client of that API sends it.
VERSION = "anthropic-version"
#: … and reads this of an answer.
REQUEST_ID_HEADER = "request-id"

#: Anthropic's names of errors by status; below 500 and not listed: `invalid_request_error`, else `api_error`.
_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}
_SERVER_ERRORS = 500


class AnthropicRefusal(Refusal):
    """`refusal` with the body `{"type": "error", "error": {"type", "message"}, "request_id"}`."""

    def __init__(self, refusal: Refusal, request_id: str) -> None:
        kind = _TYPES.get(refusal.status)
        if kind is None:
            kind = "invalid_request_error" if refusal.status < _SERVER_ERRORS else "api_error"
        headers = {**refusal.headers, REQUEST_ID_HEADER: request_id} if request_id else refusal.headers
        super().__init__(
            refusal.status,
            refusal.message,
            code=refusal.code,
            type=kind,
            param=refusal.param,
            headers=headers,
            detail=refusal.detail,
        )
        self.request_id = request_id or None

    def body(self) -> bytes:
        error = {"type": self.type, "message": self.message}
        return msgspec.json.encode({"type": "error", "error": error, "request_id": self.request_id})


def speaks_anthropic(headers: Headers) -> bool:
    """Whether the client of a request expects errors of Anthropic's API: by the path, else by the headers."""
    path = path_of(headers.get(PATH))
    return path.endswith(("/v1/messages", "/v1/messages/count_tokens")) or headers.raw(VERSION) is not None
