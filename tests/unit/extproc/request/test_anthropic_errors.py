import json

import pytest

from extproc.errors import Refusal
from extproc.protocol.headers import PATH, Headers
from extproc.request.anthropic_errors import AnthropicRefusal, speaks_anthropic


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"), (401, "authentication_error"), (403, "permission_error"),
        (404, "not_found_error"), (413, "request_too_large"), (415, "invalid_request_error"),
        (429, "rate_limit_error"), (431, "invalid_request_error"), (500, "api_error"), (503, "overloaded_error"),
    ],
)  # fmt: skip
def test_each_status_has_its_name(status: int, kind: str) -> None:
    one = AnthropicRefusal(Refusal(status, "No.", code="c", headers={"a": "b"}, detail="why"), "id-1")
    assert json.loads(one.body()) == {"type": "error", "error": {"type": kind, "message": "No."}, "request_id": "id-1"}
    assert one.headers == {"a": "b", "request-id": "id-1"}
    assert (one.status, one.code, one.detail) == (status, "c", "why")


def test_without_a_request_id() -> None:
    one = AnthropicRefusal(Refusal(400, "No.", code=None), "")
    assert json.loads(one.body())["request_id"] is None
    assert dict(one.headers) == {}


@pytest.mark.parametrize(
    ("path", "version", "anthropic"),
    [
        ("/v1/messages", False, True),
        ("/v1/messages?beta=true", False, True),
        ("/anthropic/v1/messages/", False, True),
        ("/v1/message%73", False, True),
        ("/v1/messages/count_tokens", False, True),
        ("/v1/models", True, True),
        ("/v1/models", False, False),
        ("/v1/chat/completions", False, False),
        ("/v1/messages/batches", False, False),
    ],
)
def test_whose_clients_know_it(path: str, version: bool, anthropic: bool) -> None:
    headers = [(PATH, path.encode())] + ([("anthropic-version", b"2023-06-01")] if version else [])
    assert speaks_anthropic(Headers(headers)) is anthropic
