"""What can go wrong in the model server.

ModelsimError
├── RequestTooLong   the engine could never hold the request
└── ApiError         an answer that is not a model's, in OpenAI's error shape
"""


class ModelsimError(Exception):
    """Base of this package's errors."""


class RequestTooLong(ModelsimError):
    """Prompt and answer together exceed what the engine can hold: `tokens` asked for, `limit` there are."""

    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__(f"{tokens} tokens do not fit into {limit}")
        self.tokens = tokens
        self.limit = limit


class ApiError(ModelsimError):
    """An answer `{"error": {"message", "type", "code", "param"}}` with `status`."""

    def __init__(self, status: int, message: str, *, code: str = "invalid_request", param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param

    @property
    def body(self) -> dict[str, object]:
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind, "code": self.code, "param": self.param}}


def context_too_long(tokens: int, limit: int) -> ApiError:
    message = f"This model's maximum context length is {limit} tokens. However, you requested {tokens} tokens."
    return ApiError(400, message, code="context_length_exceeded")


def model_not_found(model: str) -> ApiError:
    return ApiError(404, f"The model `{model}` does not exist.", code="model_not_found", param="model")
