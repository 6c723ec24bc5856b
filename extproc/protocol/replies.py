"""The replies on an ext_proc stream: one reply to each event, but for full-duplex streaming."""

import msgspec

from extproc.protocol.events import BodyMode


class Mutation(msgspec.Struct, frozen=True):
    """Changes to a message. Nothing that is not named here is touched."""

    set_headers: tuple[tuple[str, str], ...] = ()
    remove_headers: tuple[str, ...] = ()
    #: The pods in order; empty: none. Both the header `x-gateway-destination-endpoint` and the dynamic metadata
    #: `envoy.lb` / `x-gateway-destination-endpoint`, which "MUST be the same value" (protocol 004).
    destination: str = ""
    #: Dynamic metadata `envoy.lb` / `x-gateway-pool`: where Envoy finds a pod when all of these are gone; empty: none.
    pool: str = ""
    #: Marks the request as let in: should the sidecar be gone before it has decided, Envoy's guard lets it pass.
    admitted: bool = False


NO_MUTATION = Mutation()


class Tag(msgspec.Struct, frozen=True):
    """Dynamic metadata of one request: no part of the mutation, which is the same for many."""

    #: Finds the request again in the access log; of `wire.KEY_LENGTH` characters.
    key: str
    #: The decision in words, for a response header. Empty: none.
    explanation: str = ""


class ModeOverride(msgspec.Struct, frozen=True):
    """Another way in which Envoy shows this one answer, from its headers on."""

    #: Of the request, which stays as it is: the override names all modes.
    request_body_mode: BodyMode
    response_body_mode: BodyMode


class RequestHeadersReply(msgspec.Struct, frozen=True):
    mutation: Mutation = NO_MUTATION
    tag: Tag | None = None


class RequestBodyReply(msgspec.Struct, frozen=True):
    mutation: Mutation = NO_MUTATION
    #: None leaves the body as it is.
    body: bytes | None = None
    tag: Tag | None = None


class RequestBodyChunk(msgspec.Struct, frozen=True):
    """Full duplex: a piece of the body that Envoy is to send on, which it has not kept."""

    body: bytes | memoryview
    end_of_stream: bool


class RequestTrailersReply(msgspec.Struct, frozen=True):
    #: As in `Mutation`. Not empty only where the decision is made at the trailers: a request of headers and trailers
    #: without a body, whose headers can no longer be changed.
    destination: str = ""
    tag: Tag | None = None


class ResponseHeadersReply(msgspec.Struct, frozen=True):
    mutation: Mutation = NO_MUTATION
    #: How Envoy is to show the rest of the answer; None: as it is set up.
    mode: ModeOverride | None = None


class ResponseBodyReply(msgspec.Struct, frozen=True):
    """Lets a piece of the answer pass."""


class ResponseBodyChunk(msgspec.Struct, frozen=True):
    body: bytes
    end_of_stream: bool


class ResponseBodyBack(msgspec.Struct, frozen=True):
    """Full duplex: a piece of the answer goes on as it came."""

    #: As of the event.
    serialized: bytes


class ResponseTrailersReply(msgspec.Struct, frozen=True):
    """They go on."""


class ImmediateReply(msgspec.Struct, frozen=True):
    """Ends the request with this answer, in whichever request phase it is."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    #: For Envoy's access log (`%RESPONSE_CODE_DETAILS%`): a short word.
    details: str = ""


Reply = (
    RequestHeadersReply
    | RequestBodyReply
    | RequestBodyChunk
    | RequestTrailersReply
    | ResponseHeadersReply
    | ResponseBodyReply
    | ResponseBodyChunk
    | ResponseBodyBack
    | ResponseTrailersReply
    | ImmediateReply
)
