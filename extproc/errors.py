"""All errors, and the result of each.

Status and public text of a refusal are written here and nowhere else.

GatewayError
├── ConfigError              the configuration is wrong: exit 2
├── ProtocolError            somebody broke the ext_proc protocol
│   ├── RemoteProtocolError  Envoy did: its stream ends with a status, nothing else is touched
│   └── LocalProtocolError   we did: a bug
└── Refusal                  a request that gets an answer of ours instead of a model's

Text for clients (`message`) and text for logs (`detail`) are separate fields; `detail` never leaves the process.
"""

from collections.abc import Mapping

import msgspec


class GatewayError(Exception):
    """Base of this package's errors."""


class ConfigError(GatewayError):
    """The configuration is wrong. `str()` lists every mistake, one a line."""


class ProtocolError(GatewayError):
    """The ext_proc protocol was broken."""


class RemoteProtocolError(ProtocolError):
    """Envoy sent a message that the protocol forbids now."""


class LocalProtocolError(ProtocolError):
    """We tried to send a message that the protocol forbids now. Always a bug of ours."""


class Refusal(GatewayError):
    """An answer to a client in OpenAI's error shape: `{"error": {"message", "type", "code", "param"}}`."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None,
        type: str = "invalid_request_error",  # noqa: A002 - OpenAI's name of the field
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        detail: str = "",
    ) -> None:
        super().__init__(detail or message)
        self.status = status
        self.message = message
        self.code = code
        self.type = type
        self.param = param
        self.headers = headers or {}
        #: For logs and metrics only. Never empty.
        self.detail = detail or message

    def body(self) -> bytes:
        return msgspec.json.encode(
            {"error": {"message": self.message, "type": self.type, "code": self.code, "param": self.param}}
        )


def bad_request(message: str, *, code: str = "invalid_request", param: str | None = None, detail: str = "") -> Refusal:
    return Refusal(400, message, code=code, param=param, detail=detail)


def body_not_whole() -> Refusal:
    message = "The request body is not valid JSON, or the gateway shows only a part of it."
    return bad_request(message, code="invalid_json", detail="a part of a body, of an Envoy that does not tell its mode")


def body_too_large(limit: int) -> Refusal:
    return Refusal(413, f"The request body is larger than the {limit} bytes allowed.", code="request_too_large")


def too_many_bodies(detail: str) -> Refusal:
    """There is no room for the body of this request now."""
    return Refusal(
        429,
        "Too many bytes of request bodies are under way. Try again later.",
        code="too_many_body_bytes",
        type="rate_limit_error",
        headers={"retry-after": RETRY_AFTER},
        detail=detail,
    )


def body_too_slow() -> Refusal:
    """The body took too long, or its room was needed."""
    return Refusal(408, "The request body did not arrive in time.", code="request_timeout", detail="body not whole")


def unsupported_encoding(known: str) -> Refusal:
    """415. RFC 9110 section 15.5.16: `Accept-Encoding` lists the encodings that are understood."""
    message = f"The content-encoding of the request body must be one of {known}."
    return Refusal(415, message, code="unsupported_encoding", headers={"accept-encoding": known})


def unauthorized(reason: str, *, missing: bool = False) -> Refusal:
    """401 by RFC 6750 section 3: without credentials no error code is given.

    `reason` is the machine-readable cause, for logs and metrics: clients learn only that the token was not accepted.
    """
    challenge = "Bearer" if missing else 'Bearer error="invalid_token"'
    message = "A bearer token is required." if missing else "The bearer token is not valid."
    code = "missing_token" if missing else "invalid_token"
    return Refusal(
        401, message, code=code, type="authentication_error", headers={"www-authenticate": challenge}, detail=reason
    )


def token_too_large(limit: int, reason: str) -> Refusal:
    message = f"The bearer token is larger than the {limit} bytes allowed."
    return Refusal(431, message, code="token_too_large", detail=reason)


def forbidden(message: str, *, detail: str) -> Refusal:
    challenge = {"www-authenticate": 'Bearer error="insufficient_scope"'}
    return Refusal(403, message, code="insufficient_scope", type="permission_error", headers=challenge, detail=detail)


def missing_model() -> Refusal:
    message = "The request names no model: `model` is required."
    return bad_request(message, code="missing_required_parameter", param="model")


def model_not_found(model: str) -> Refusal:
    message = f"The model '{shown(model)}' does not exist or you do not have access to it."
    return Refusal(404, message, code="model_not_found")


def shown(model: str) -> str:
    """A model's name as it may stand in an answer."""
    return model if len(model) <= MAX_MODEL_SHOWN else f"{model[: MAX_MODEL_SHOWN - 1]}…"


def saturated(detail: str) -> Refusal:
    message = "All model servers are at their limit. Try again later."
    return Refusal(
        429, message, code="saturated", type="rate_limit_error", headers={"retry-after": RETRY_AFTER}, detail=detail
    )


def no_ready_pod(detail: str) -> Refusal:
    return Refusal(
        503, "No model server is ready.", code="no_ready_endpoint", type="service_unavailable_error", detail=detail
    )


def auth_unavailable(detail: str) -> Refusal:
    """The keys to check a token with are not to be had: never a reason to let it pass."""
    message = "Tokens cannot be checked right now."
    return Refusal(503, message, code="auth_unavailable", type="service_unavailable_error", detail=detail)


#: Characters of a model's name in an answer: no model has a longer one, and a body of 16 MiB may.
MAX_MODEL_SHOWN = 200
#: Seconds. A queue that is full now is commonly shorter after one decode of a short answer; more would idle the pods.
RETRY_AFTER = "1"
