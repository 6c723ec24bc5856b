# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""From replies to serialized ext_proc messages.

An answer that lets the request continue is a constant. Those that send requests to pods differ in nothing but the list
of pods, which stands in them twice: of these the rest is kept, for each length of the list.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from extproc._pb import (
    BodyResponse,
    HeaderAppendAction,
    HeaderMutation,
    HeaderSendMode,
    HeadersResponse,
    ProcessingResponse,
    Struct,
    TrailersResponse,
    Value,
)
from extproc.errors import LocalProtocolError
from extproc.protocol import replies
from extproc.protocol.events import BodyMode
from extproc.protocol.headers import (
    ADMITTED,
    DESTINATION,
    DESTINATION_NAMESPACE,
    EXPLANATION,
    KEY,
    OWN_NAMESPACE,
    POOL,
)
from extproc.protocol.replies import Mutation, Reply, Tag
from extproc.wire import bodies
from extproc.wire.decoding import MAX_CACHED_CONFIGS

#: Replies that are kept for each phase, and the largest that is, in bytes: 4 MiB of them at most, besides their keys. A
#: list of five pods with a few headers takes about 300 bytes. With our Envoy there are as many as lengths of such
#: lists; behind another, where the reply to the headers sets identity headers too, as many as subjects.
MAX_CACHED_REPLIES = 4096
MAX_CACHED_REPLY = 1024
#: Characters of a request's key in the access log.
KEY_LENGTH = 16


def encode(reply: Reply) -> bytes:
    """The reply as a serialized `ProcessingResponse`. Header values are sent as UTF-8.

    Raises:
        LocalProtocolError: the reply holds what no message can: a lone surrogate, or a status outside of 32 bits.
    """
    try:
        return _ENCODERS[type(reply)](reply)
    except ValueError as error:
        raise LocalProtocolError(f"{type(reply).__name__} cannot be sent: {error}") from error


_OVERWRITE = HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD


def _change_headers(
    target: HeaderMutation, set_headers: tuple[tuple[str, str], ...], remove_headers: tuple[str, ...]
) -> None:
    for name, value in set_headers:
        option = target.set_headers.add()
        option.append_action = _OVERWRITE
        header = option.header
        header.key = name.encode("latin-1")
        header.raw_value = value.encode()
    target.remove_headers.extend([name.encode("latin-1") for name in remove_headers])


def _add(struct: Struct, name: str) -> Value:
    """The value of a field that `struct` does not have yet."""
    field = struct.fields.add()
    field.key = name.encode()
    field.value.SetInParent()
    return field.value


def _set_destination(message: ProcessingResponse, destination: str, pool: str = "") -> None:
    struct = _add(message.dynamic_metadata, DESTINATION_NAMESPACE).struct_value
    _add(struct, DESTINATION).string_value = destination.encode()
    if pool:
        _add(struct, POOL).string_value = pool.encode()


def _mutate(message: ProcessingResponse, part: HeadersResponse | BodyResponse, mutation: Mutation) -> None:
    part.SetInParent()
    set_headers = mutation.set_headers
    if mutation.destination:
        set_headers = ((DESTINATION, mutation.destination), *set_headers)
    if set_headers or mutation.remove_headers:
        _change_headers(part.response.header_mutation, set_headers, mutation.remove_headers)
    if mutation.destination:
        _set_destination(message, mutation.destination, mutation.pool)
    if mutation.admitted:
        _add(_add(message.dynamic_metadata, OWN_NAMESPACE).struct_value, ADMITTED).bool_value = True


#: The bytes before the list of pods, between its two places, and after.
_Around = tuple[bytes, bytes, bytes]


class _Replies:
    """The serialized replies of one phase that only change headers and metadata."""

    def __init__(
        self,
        part: Callable[[ProcessingResponse], HeadersResponse | BodyResponse],
        most: int = MAX_CACHED_REPLIES,
    ) -> None:
        self._part = part
        self._most = most
        self._kept: dict[tuple[object, ...], _Around] = {}

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._kept)

    def reply(self, mutation: Mutation) -> bytes:
        pods = mutation.destination.encode()
        # All of a mutation, and of the list its length: two lists of one length make replies of one form.
        key = (
            len(pods), mutation.set_headers, mutation.remove_headers, mutation.pool, mutation.admitted,
        )  # fmt: skip
        around = self._kept.get(key)
        if around is None:
            around = self._around(mutation, len(pods))
            if sum(map(len, around)) + 2 * len(pods) <= MAX_CACHED_REPLY:
                if len(self._kept) >= self._most:
                    # Built again in microseconds: keeping them in order of use would cost more at every hit.
                    self._kept.clear()
                self._kept[key] = around
        before, between, after = around
        return before + pods + between + pods + after if pods else before

    def _around(self, mutation: Mutation, size: int) -> _Around:
        """The common parts of two replies whose lists of pods have `size` bytes and are different in each of them."""
        one, other = (
            self._serialized(msgspec.structs.replace(mutation, destination=filler * size)) for filler in "\0\1"
        )
        if not size:
            return one, b"", b""
        different = [at for at, (left, right) in enumerate(zip(one, other, strict=True)) if left != right]
        first, second = different[0], different[size]
        return one[:first], one[first + size : second], one[second + size :]

    def _serialized(self, mutation: Mutation) -> bytes:
        message = ProcessingResponse()
        _mutate(message, self._part(message), mutation)
        return message.SerializeToString()


_request_headers_replies = _Replies(lambda message: message.request_headers)
_request_body_replies = _Replies(lambda message: message.request_body)
_response_headers_replies = _Replies(lambda message: message.response_headers)


def _tagged(reply: bytes, tag: Tag | None) -> bytes:
    """A serialized reply with what belongs to this one request in its dynamic metadata.

    Protobuf merges a message field that comes twice, so the part that differs for each request is put behind the one
    that is kept.
    """
    if tag is None:
        return reply
    if not tag.explanation:
        return reply + _KEY_BEFORE + tag.key.encode()
    message = ProcessingResponse()
    own = _add(message.dynamic_metadata, OWN_NAMESPACE).struct_value
    _add(own, KEY).string_value = tag.key.encode()
    _add(own, EXPLANATION).string_value = tag.explanation.encode()
    return reply + message.SerializeToString()


def _request_headers_reply(reply: replies.RequestHeadersReply) -> bytes:
    return _tagged(_request_headers_replies.reply(reply.mutation), reply.tag)


def _request_body_reply(reply: replies.RequestBodyReply) -> bytes:
    if reply.body is None:
        return _tagged(_request_body_replies.reply(reply.mutation), reply.tag)
    message = ProcessingResponse()
    part = message.request_body
    _mutate(message, part, reply.mutation)
    if reply.body:
        part.response.body_mutation.body = reply.body
    else:
        part.response.body_mutation.clear_body = True
    return _tagged(message.SerializeToString(), reply.tag)


def _request_body_chunk(reply: replies.RequestBodyChunk) -> bytes:
    return bodies.REQUEST_PIECES.piece(bytes(reply.body), last=reply.end_of_stream)


def _response_body_chunk(reply: replies.ResponseBodyChunk) -> bytes:
    return bodies.RESPONSE_PIECES.piece(reply.body, last=reply.end_of_stream)


def _response_body_back(reply: replies.ResponseBodyBack) -> bytes:
    return bodies.RESPONSE_PIECES.before(len(reply.serialized)) + reply.serialized


def _request_trailers_reply(reply: replies.RequestTrailersReply) -> bytes:
    message = ProcessingResponse()
    message.request_trailers.SetInParent()
    if reply.destination:
        _set_destination(message, reply.destination)
    return _tagged(message.SerializeToString(), reply.tag)


def _response_headers_reply(reply: replies.ResponseHeadersReply) -> bytes:
    kept = _response_headers_replies.reply(reply.mutation)
    return kept if reply.mode is None else kept + _mode_override(reply.mode)


@lru_cache(maxsize=MAX_CACHED_CONFIGS)
def _mode_override(mode: replies.ModeOverride) -> bytes:
    message = ProcessingResponse()
    part = message.mode_override
    part.request_header_mode = part.response_header_mode = part.response_trailer_mode = HeaderSendMode.SEND
    part.request_body_mode = mode.request_body_mode.value
    part.response_body_mode = mode.response_body_mode.value
    # Full duplex is not to be had without.
    duplex = mode.request_body_mode is BodyMode.FULL_DUPLEX_STREAMED
    part.request_trailer_mode = HeaderSendMode.SEND if duplex else HeaderSendMode.SKIP
    return message.SerializeToString()


def _response_body_reply(_reply: replies.ResponseBodyReply) -> bytes:
    return _RESPONSE_BODY_GOES_ON


def _response_trailers_reply(_reply: replies.ResponseTrailersReply) -> bytes:
    return _RESPONSE_TRAILERS_GO_ON


def _immediate_reply(reply: replies.ImmediateReply) -> bytes:
    message = ProcessingResponse()
    answer = message.immediate_response
    answer.status.code = reply.status
    _change_headers(answer.headers, reply.headers, ())
    answer.body = reply.body
    answer.details = reply.details.encode()
    return message.SerializeToString()


def _key_before() -> bytes:
    message = ProcessingResponse()
    _add(_add(message.dynamic_metadata, OWN_NAMESPACE).struct_value, KEY).string_value = b"0" * KEY_LENGTH
    return message.SerializeToString()[:-KEY_LENGTH]


#: The bytes before a key: its length is part of it, so all keys have one length.
_KEY_BEFORE = _key_before()

_RESPONSE_BODY_GOES_ON = ProcessingResponse(response_body=BodyResponse()).SerializeToString()
_RESPONSE_TRAILERS_GO_ON = ProcessingResponse(response_trailers=TrailersResponse()).SerializeToString()

_ENCODERS: Mapping[type, Callable[[Any], bytes]] = {
    replies.RequestHeadersReply: _request_headers_reply,
    replies.RequestBodyReply: _request_body_reply,
    replies.RequestBodyChunk: _request_body_chunk,
    replies.RequestTrailersReply: _request_trailers_reply,
    replies.ResponseHeadersReply: _response_headers_reply,
    replies.ResponseBodyReply: _response_body_reply,
    replies.ResponseBodyChunk: _response_body_chunk,
    replies.ResponseBodyBack: _response_body_back,
    replies.ResponseTrailersReply: _response_trailers_reply,
    replies.ImmediateReply: _immediate_reply,
}
