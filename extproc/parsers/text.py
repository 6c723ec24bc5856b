"""The text of a prompt, in the order in which a model sees it: tools, then every message.

The text is a sequence of fields. Each begins with a mark, U+001E and a letter; a U+001E inside of a client's text is
doubled, so no text can pass for a mark, and different conversations have different texts. Nothing depends on what comes
later: a conversation's next turn begins with exactly the text of the turn before, and two prompts that begin alike have
texts that begin alike.

The writers take any decoded JSON and append to `out`. What has no text (images, audio, files, shapes not known here) is
written as a digest.
"""

from extproc.parsers.digest import CACHE_CONTROL, canonical, digest

_MARK = "\x1e"
#: Followed by the role.
MESSAGE = _MARK + "m"
TEXT = _MARK + "t"
#: Followed by JSON of the tools, or of one call or all calls of a message.
TOOLS = _MARK + "f"
CALL = _MARK + "c"
#: Followed by the id of the call that it answers, its content, and an end: what comes after may be a text as well.
RESULT = _MARK + "r"
RESULT_END = _MARK + "e"
REASONING = _MARK + "g"
#: Followed by a digest: a part of a message, or what stands in the place of a message.
PART = _MARK + "p"
ODD = _MARK + "x"

#: Followed by a digest.
SALT = _MARK + "s"

_ROLES = ("system", "developer", "user", "assistant", "tool")
#: What the text of a message begins with, where the message is a known role and one text: nearly all are.
_PLAIN = {role: MESSAGE + role + TEXT for role in _ROLES}

_TEXT_TYPES = frozenset({"text", "input_text", "output_text"})

#: What else of a message a model sees, under its names in the APIs of today.
_EXTRAS = (
    ("name", _MARK + "n"),
    ("reasoning", REASONING),
    ("reasoning_content", REASONING),
    ("tool_call_id", _MARK + "i"),
    ("function_call", CALL),
    ("tool_calls", CALL),
)

#: Fields of a prompt, about: what follows is left out. Only the first kilobytes of a text are hashed, and no model is
#: shown a hundred thousand parts; a body of nothing but empty parts would take seconds to be written.
MAX_FIELDS = 100_000

#: `role` and `content`: a message without more needs no search for more.
_PLAIN_FIELDS = 2


def escape(text: str) -> str:
    """`text` as it may stand inside of a field."""
    return text.replace(_MARK, _MARK + _MARK) if _MARK in text else text


def write_salt(value: object, out: list[str]) -> None:
    """What keeps a prompt apart from the same one of others. First of all: then no prefix is shared either."""
    out.append(SALT)
    out.append(digest(value))


def write_messages(messages: object, out: list[str]) -> None:
    if type(messages) is not list:
        return
    append = out.append
    for message in messages:
        if len(out) > MAX_FIELDS:
            return
        if type(message) is not dict:
            write_odd_message(message, out)
            continue
        # The common message is written here, without a call, as `write_message` would.
        content = message.get("content")
        role = message.get("role")
        if len(message) == _PLAIN_FIELDS and type(content) is str and type(role) is str and role in _PLAIN:
            append(_PLAIN[role])
            append(content if _MARK not in content else escape(content))
        else:
            write_message(message, out)


def write_message(message: dict[str, object], out: list[str]) -> None:
    role = message.get("role")
    out.append(MESSAGE)
    if type(role) is str:
        out.append(escape(role))
    content = message.get("content")
    if type(content) is str:
        # A list with this text as its only part gives the same: it is the same to a model.
        out.append(TEXT)
        out.append(escape(content))
    elif content is not None:
        _write_content(content, out)
    if len(message) > _PLAIN_FIELDS:
        for name, mark in _EXTRAS:
            value = message.get(name)
            if value:
                out.append(mark)
                out.append(escape(value) if type(value) is str else canonical(value))


def write_odd_message(value: object, out: list[str]) -> None:
    """What stands where a message is expected and is none known here."""
    out.append(ODD)
    out.append(digest(value))


def write_result(call_id: object, content: object, out: list[str]) -> None:
    """What a tool answered."""
    out.append(RESULT)
    if type(call_id) is str:
        out.append(escape(call_id))
    if content is not None:
        _write_content(content, out)
    out.append(RESULT_END)


def write_tools(tools: object, out: list[str]) -> None:
    if type(tools) is list:
        tools = [_without_cache_control(tool) for tool in tools]
    out.append(TOOLS)
    out.append(canonical(tools))


def write_token_ids(ids: list[object], out: list[str]) -> None:
    """Token ids as their digits. The last one is closed as well, so that more ids only append."""
    out.append(_MARK + "d")
    if ids:
        out.append(canonical(ids)[1:-1])
        out.append(",")


def _write_content(content: object, out: list[str]) -> None:
    for part in content if type(content) is list else (content,):
        if len(out) > MAX_FIELDS:
            return
        if type(part) is str:
            out.append(TEXT)
            out.append(escape(part))
        elif type(part) is dict:
            _write_part(part, out)
        else:
            out.append(PART)
            out.append(digest(part))


def _write_part(part: dict[str, object], out: list[str]) -> None:
    kind = part.get("type")
    text = part.get("text")
    if type(text) is str and type(kind) is str and kind in _TEXT_TYPES:
        out.append(TEXT)
        out.append(escape(text))
    elif kind == "tool_result":
        write_result(part.get("tool_use_id"), part.get("content"), out)
    elif kind == "tool_use":
        out.append(CALL)
        out.append(canonical(_without_cache_control(part)))
    elif kind == "thinking" and type(thinking := part.get("thinking")) is str:
        out.append(REASONING)
        out.append(escape(thinking))
    else:
        out.append(PART)
        out.append(digest(part))


def _without_cache_control(value: object) -> object:
    if type(value) is dict and CACHE_CONTROL in value:
        return {key: item for key, item in value.items() if key != CACHE_CONTROL}
    return value
