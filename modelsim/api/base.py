"""What the APIs have in common: an `Api` reads a body and words a whole answer, a `Streamer` words it by the token."""

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from modelsim.errors import ApiError

#: Tokens of an answer when the client sets no limit.
DEFAULT_ANSWER = 64

Body = Mapping[str, Any]


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What a client wants."""

    #: None where the body names none: the base model, as in vLLM.
    model: str | None
    prompt: str
    #: Tokens of the answer.
    max_tokens: int
    #: Whether the client set that number, so that the answer is cut rather than complete.
    limited: bool = False
    stream: bool = False
    include_usage: bool = False


class Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The answer that is under way."""

    #: Without the API's own prefix.
    id: str
    model: str
    #: Unix time, seconds.
    created: int
    ask: Ask
    body: Body


class Streamer(Protocol):
    """Server-sent events of one answer, as bytes that may be empty. Calls come in this order."""

    def opening(self) -> bytes:
        """Sent as soon as the request is accepted."""

    def begin(self, usage: Usage) -> bytes:
        """Sent right before the first token; `usage` counts that one."""

    def token(self, text: str, *, last: bool) -> bytes: ...

    def end(self, usage: Usage) -> bytes: ...


class Api(Protocol):
    def read(self, body: Body) -> Ask:
        """Raises ApiError (400) for a body that does not say what to do."""

    def unary(self, reply: Reply, text: str, usage: Usage) -> dict[str, Any]: ...

    def stream(self, reply: Reply) -> Streamer: ...


def data(message: object) -> bytes:
    """An event without a name, as OpenAI's older APIs send them."""
    return b"data: " + msgspec.json.encode(message) + b"\n\n"


def event(name: str, message: object) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(message) + b"\n\n"


#: Last event of OpenAI's older APIs.
DONE = b"data: [DONE]\n\n"


def read_model(body: Body) -> str | None:
    model = body.get("model")
    if model is not None and not isinstance(model, str):
        raise ApiError(400, "`model` must be a string.", param="model")
    return model or None


def read_flag(body: Body, name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise ApiError(400, f"`{name}` must be true or false.", param=name)
    return bool(value)


def read_limit(body: Body, *names: str) -> int | None:
    """The first of `names` that is set, which must be a whole number of at least 1."""
    for name in names:
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ApiError(400, f"`{name}` must be a whole number of at least 1.", param=name)
        return value
    return None


def read_include_usage(body: Body) -> bool:
    options = body.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, Mapping):
        raise ApiError(400, "`stream_options` must be an object.", param="stream_options")
    return read_flag(options, "include_usage")


def require_single(body: Body) -> None:
    """One answer a request is all that is modelled."""
    if body.get("n") not in (None, 1):
        raise ApiError(400, "`n` must be 1: this server gives one answer a request.", param="n")


def content_text(content: object, param: str) -> str:
    """Text of a message: a string, or a list of parts. Parts that are not text count as they are written."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ApiError(400, f"`{param}` must be a string or a list of parts.", param=param)
    texts = []
    for part in content:
        text = part.get("text") if isinstance(part, Mapping) else part
        texts.append(text if isinstance(text, str) else msgspec.json.encode(part).decode())
    return "".join(texts)


def conversation_text(messages: object, param: str) -> str:
    """The messages as a chat template would lay them out: role, then content, one after the other."""
    if not isinstance(messages, list) or not messages:
        raise ApiError(400, f"`{param}` must be a list of at least one message.", param=param)
    parts = []
    for index, message in enumerate(messages):
        where = f"{param}[{index}]"
        if not isinstance(message, Mapping):
            raise ApiError(400, f"`{where}` must be an object.", param=where)
        role = message.get("role", "")
        if not isinstance(role, str):
            raise ApiError(400, f"`{where}.role` must be a string.", param=f"{where}.role")
        parts.append(f"<{role}>{content_text(message.get('content'), f'{where}.content')}\n")
        if calls := message.get("tool_calls"):
            parts.append(msgspec.json.encode(calls).decode())
    return "".join(parts)


def tools_text(body: Body) -> str:
    tools = body.get("tools")
    return msgspec.json.encode(tools).decode() + "\n" if tools else ""


def prompt_text(prompt: object, param: str) -> str:
    """A prompt that is a string, a list of one, or token ids: each id stands for four characters."""
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, list) and prompt and all(isinstance(token, int) for token in prompt):
        return token_text(prompt)
    raise ApiError(400, f"`{param}` must be one string or one list of token ids.", param=param)


def token_text(tokens: list[int]) -> str:
    return "".join([f"{token & 0xFFFF:04x}" for token in tokens])


def openai_usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "completion_tokens": usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }
