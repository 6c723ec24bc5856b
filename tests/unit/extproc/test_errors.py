import json

import pytest

from extproc import errors


@pytest.mark.parametrize(
    ("refusal", "status", "code", "headers"),
    [
        (errors.bad_request("No.", param="model"), 400, "invalid_request", {}),
        (errors.body_too_large(10), 413, "request_too_large", {}),
        (errors.body_not_whole(), 400, "invalid_json", {}),
        (errors.too_many_bodies("a tenant's share"), 429, "too_many_body_bytes", {"retry-after": "1"}),
        (errors.body_too_slow(), 408, "request_timeout", {}),
        (errors.unsupported_encoding("gzip, zstd"), 415, "unsupported_encoding", {"accept-encoding": "gzip, zstd"}),
        (errors.token_too_large(10, "too_large"), 431, "token_too_large", {}),
        (errors.missing_model(), 400, "missing_required_parameter", {}),
        (errors.model_not_found("m"), 404, "model_not_found", {}),
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


def test_the_parameter_that_is_missing_is_named() -> None:
    assert json.loads(errors.missing_model().body())["error"]["param"] == "model"


def test_a_long_name_of_a_model_is_cut_in_an_answer() -> None:
    limit = errors.MAX_MODEL_SHOWN
    assert errors.shown("m" * limit) == "m" * limit
    assert errors.shown("m" * (limit + 1)) == "m" * (limit - 1) + "…"
    assert len(errors.model_not_found("m" * (1 << 20)).body()) < limit + 200
