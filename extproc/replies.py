"""What is answered on an ext_proc stream: one reply to each event, but for full-duplex streaming."""

import msgspec


class Mutation(msgspec.Struct, frozen=True):
    """Changes to a message. Nothing that is not named here is touched."""

    set_headers: tuple[tuple[str, str], ...] = ()
    remove_headers: tuple[str, ...] = ()
    #: Dynamic metadata `envoy.lb` / `x-gateway-destination-endpoint`: the pods in order; empty sets none.
    destination: str = ""
    #: Lets Envoy choose the route again (the model's name changed, or a route matches on the destination).
    clear_route_cache: bool = False


NO_MUTATION = Mutation()


class RequestHeadersReply(msgspec.Struct, frozen=True):
    mutation: Mutation = NO_MUTATION
    #: Put into dynamic metadata, to find the request again in the access log. Different for each request, so that it
    #: is not part of the mutation, which is the same for many. Empty: none.
    key: str = ""


class RequestBodyReply(msgspec.Struct, frozen=True):
    mutation: Mutation = NO_MUTATION
    #: None leaves the body as it is.
    body: bytes | None = None
    key: str = ""


class RequestBodyChunk(msgspec.Struct, frozen=True):
    """Full duplex: a piece of the body that Envoy is to send on, which it has not kept."""

    body: bytes
    end_of_stream: bool


class RequestTrailersReply(msgspec.Struct, frozen=True):
    #: As in `Mutation`. Not empty only where the decision is made at the trailers: a request of headers and trailers
    #: without a body, whose headers can no longer be changed.
    destination: str = ""
    key: str = ""


class ResponseHeadersReply(msgspec.Struct, frozen=True):
    mutation: Mutation = NO_MUTATION


class ResponseBodyReply(msgspec.Struct, frozen=True):
    body: bytes | None = None


class ResponseBodyChunk(msgspec.Struct, frozen=True):
    body: bytes
    end_of_stream: bool


class ResponseTrailersReply(msgspec.Struct, frozen=True):
    remove_headers: tuple[str, ...] = ()


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
    | ResponseTrailersReply
    | ImmediateReply
)
