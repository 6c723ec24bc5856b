import json

import pytest

from extproc import errors


@pytest.mark.parametrize(
    ("refusal", "status", "code", "headers"),
    [
        (errors.bad_request("No.", param="model"), 400, "invalid_request", {}),
        (errors.body_too_large(10), 413, "request_too_large", {}),
        (errors.unauthorized("expired"), 401, "invalid_token", {"www-authenticate": 'Bearer error="invalid_token"'}),
        (errors.unauthorized("missing", missing=True), 401, "missing_token", {"www-authenticate": "Bearer"}),
        (
            errors.forbidden("No.", detail="x"),
            403,
            "insufficient_scope",
            {"www-authenticate": 'Bearer error="insufficient_scope"'},
        ),
        (errors.saturated("all of them"), 429, "saturated", {"retry-after": "1"}),
        (errors.no_ready_pod("none"), 503, "no_ready_endpoint", {}),
        (errors.auth_unavailable("keys"), 503, "auth_unavailable", {}),
    ],
)
def test_each_refusal_has_openais_shape(
    refusal: errors.Refusal, status: int, code: str, headers: dict[str, str]
) -> None:
    assert (refusal.status, refusal.code, dict(refusal.headers)) == (status, code, headers)
    error = json.loads(refusal.body())["error"]
    assert set(error) == {"message", "type", "code", "param"}
    assert error["code"] == code


def test_what_is_for_logs_does_not_reach_the_client() -> None:
    refusal = errors.unauthorized("bad_signature of key 17")
    assert b"17" not in refusal.body()
    assert refusal.detail == str(refusal) == "bad_signature of key 17"
