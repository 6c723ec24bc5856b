"""One request's way, without a socket: events in, replies and counts out."""

import asyncio
from typing import Any

import msgspec
import pytest
from support.pipeline_world import PODS, FakeAuthenticator, World, body, head, routed

from extproc.auth.base import Identity, Pending
from extproc.errors import RemoteProtocolError, unauthorized
from extproc.protocol.events import (
    BodyMode,
    ProtocolConfig,
    RequestBody,
    RequestHeaders,
)
from extproc.protocol.headers import Headers
from extproc.protocol.replies import ImmediateReply, RequestBodyReply, RequestHeadersReply
from extproc.request.mutation import admission
from extproc.routing.objectives import Objectives
from scheduler.pool.signals import Sample


def test_a_request_from_headers_to_its_end() -> None:
    world = World()
    exchange = world.pipeline.open()
    assert exchange.handle(head()) == [RequestHeadersReply()]
    assert world.in_flight() == [0, 0]
    (reply,) = exchange.handle(body())
    assert isinstance(reply, RequestBodyReply)
    value = reply.mutation.destination
    assert sorted(value.split(",")) == [pod.address for pod in PODS]
    assert reply.mutation.set_headers == ()
    assert sum(world.in_flight()) == 1
    exchange.close()
    exchange.close()
    assert world.in_flight() == [0, 0]
    (row,) = world.decisions.rows(5)
    assert (row["request_id"], row["model"], row["pods"]) == ("r-1", "m", value.split(","))


def test_a_second_request_with_the_prefix_follows_the_first_before_it_is_answered() -> None:
    world = World()
    _, first = routed(world)
    _, second = routed(world)
    assert first == second


def test_without_a_body_the_headers_decide() -> None:
    world = World()
    (reply,) = world.pipeline.open().handle(head("GET", "/v1/models", end=True))
    assert isinstance(reply, RequestHeadersReply)
    assert reply.mutation.destination


@pytest.mark.parametrize(
    ("path", "content_type", "data", "status"),
    [
        ("/v1/chat/completions", "text/plain", b"{", 400),
        ("/v1/audio/transcriptions", "multipart/form-data; boundary=x", b"--x", None),
        ("/v1/rerank", "application/json", b"{", 400),
        ("/v1/rerank", "application/vnd.x+json; charset=utf-8", b"{", 400),
        ("/v1/rerank", "application/json", b'{"model": "m"}', None),
    ],
)
def test_what_is_read_as_json(path: str, content_type: str, data: bytes, status: int | None) -> None:
    exchange = World().pipeline.open()
    exchange.handle(head(path=path, content_type=content_type))
    (reply,) = exchange.handle(RequestBody(data, end_of_stream=True))
    assert (reply.status if isinstance(reply, ImmediateReply) else None) == status


def test_a_body_that_was_cut_is_too_large_and_not_bad() -> None:
    exchange = World().pipeline.open()
    cut = RequestHeaders(head().headers, config=ProtocolConfig(BodyMode.BUFFERED_PARTIAL))
    exchange.handle(cut)
    (reply,) = exchange.handle(RequestBody(b'{"model": "m', end_of_stream=False))
    assert isinstance(reply, ImmediateReply)
    assert reply.status == 413


def test_no_pod_and_no_room_are_told_apart() -> None:
    world = World()
    subset = RequestHeaders(head().headers, end_of_stream=True, subset=("10.9.9.9:80",))
    (reply,) = world.pipeline.open().handle(subset)
    assert isinstance(reply, ImmediateReply)
    assert reply.status == 503
    for pod in PODS:
        world.store.observe(pod.address, Sample(waiting=99.0), world.now)
    exchange = world.pipeline.open()
    exchange.handle(head())
    (reply,) = exchange.handle(body())
    assert isinstance(reply, ImmediateReply)
    assert reply.status == 429
    exchange.close()
    assert 'infer_gateway_refusals_total{reason="saturated",status="429"} 1.0' in world.page()


def test_a_refused_token_ends_the_request_before_its_body() -> None:
    world = World(FakeAuthenticator(unauthorized("expired")))
    exchange = world.pipeline.open()
    (reply,) = exchange.handle(head(authorization="Bearer x"))
    assert isinstance(reply, ImmediateReply)
    assert reply.status == 401
    exchange.close()
    assert 'infer_gateway_refusals_total{reason="expired",status="401"} 1.0' in world.page()
    assert 'infer_gateway_auth_total{result="expired"} 1.0' in world.page()
    assert b"expired" not in reply.body


async def test_keys_are_waited_for() -> None:
    fetched = asyncio.Event()
    identity = Identity("someone", "issuer", {"sub": "someone"})
    authenticator = FakeAuthenticator(Pending(fetched.wait), identity)
    exchange = World(authenticator).pipeline.open()
    assert exchange.handle(head(authorization="Bearer x")) == []
    assert exchange.pending is not None
    fetched.set()
    await exchange.pending.wait()
    assert exchange.resume() == [RequestHeadersReply(admission((), ("authorization",)))]
    assert exchange.pending is None
    assert authenticator.finals == [False, True]


def test_keys_that_do_not_come_refuse() -> None:
    pending = Pending(asyncio.Event().wait)
    exchange = World(FakeAuthenticator(pending, unauthorized("unknown_key"))).pipeline.open()
    exchange.handle(head(authorization="Bearer x"))
    (reply,) = exchange.resume()
    assert isinstance(reply, ImmediateReply)
    assert reply.status == 401


def test_models_are_for_those_who_may_use_them() -> None:
    identity = Identity("someone", "issuer", {}, frozenset({"other"}))
    world = World(FakeAuthenticator(identity))
    exchange = world.pipeline.open()
    exchange.handle(head())
    (reply,) = exchange.handle(body())
    assert isinstance(reply, ImmediateReply)
    assert reply.status == 403
    # The token was good: what it does not allow is a refusal of another kind.
    assert 'infer_gateway_auth_total{result="ok"} 1.0' in world.page()
    assert world.page().count("infer_gateway_auth_total{") == 1


def test_identity_goes_upstream_and_the_token_does_not() -> None:
    claims = {"sub": "someone", "odd": 3, "evil": "a\r\nx: y", "word": "é"}
    headers = {"x-user": "sub", "x-odd": "odd", "x-evil": "evil", "x-word": "word", "x-gone": "gone"}
    world = World(FakeAuthenticator(Identity("someone", "issuer", claims)), headers)
    exchange = world.pipeline.open()
    (first,) = exchange.handle(head(authorization="Bearer x"))
    # With the token's own answer, so that it holds also where no decision follows.
    assert first == RequestHeadersReply(admission((("x-user", "someone"),), ("authorization",)))
    (reply,) = exchange.handle(body())
    assert isinstance(reply, RequestBodyReply)
    assert reply.mutation.set_headers == ()
    assert reply.mutation.remove_headers == ()


def test_without_a_body_all_is_said_at_once() -> None:
    world = World(FakeAuthenticator(Identity("someone", "issuer", {"sub": "someone"})), {"x-user": "sub"})
    (reply,) = world.pipeline.open().handle(head(end=True, authorization="Bearer x"))
    assert isinstance(reply, RequestHeadersReply)
    assert dict(reply.mutation.set_headers).keys() == {"x-user"}
    assert reply.mutation.remove_headers == ("authorization",)


def test_who_may_not_use_every_model_is_not_let_in_before_the_decision() -> None:
    identity = Identity("someone", "issuer", {}, frozenset({"m"}))
    exchange = World(FakeAuthenticator(identity)).pipeline.open()
    said = RequestHeadersReply(admission((), ("authorization",), False))
    assert exchange.handle(head(authorization="Bearer x")) == [said]
    (reply,) = exchange.handle(body())
    assert isinstance(reply, RequestBodyReply)
    assert reply.mutation.destination


@pytest.mark.parametrize("models", [None, frozenset({"m"})])
def test_what_clients_may_not_say_is_taken_out_before_the_decision(models: frozenset[str] | None) -> None:
    """Behind another Envoy than ours, which asks no second time where trailers are all that follows."""
    identity = Identity("someone", "issuer", {"sub": "someone"}, models)
    forged: dict[str, Any] = {
        "x_user": "root",
        "x_gone": "1",
        "x_prefiller_host_port": "a",
        "x_gateway_destination_endpoint": "b",
    }
    gone = {"x-gone", "x-prefiller-host-port", "x-gateway-destination-endpoint"}
    for authenticator in (FakeAuthenticator(identity), None):
        world = World(authenticator, {"x-user": "sub", "x-gone": "gone"} if authenticator else {})
        world.pipeline.foreign = True
        exchange = world.pipeline.open()
        (first,) = exchange.handle(head(authorization="Bearer x", **forged))
        assert isinstance(first, RequestHeadersReply)
        told = (("x-user", "someone"),) if authenticator else ()
        removed = gone | {"authorization"} if authenticator else gone - {"x-gone"}
        assert (first.mutation.set_headers, set(first.mutation.remove_headers)) == (told, removed)
        assert first.mutation.admitted is (authenticator is not None and models is None)
        (reply,) = exchange.handle(body())
        assert isinstance(reply, RequestBodyReply)
        assert reply.mutation.set_headers == ()
        assert reply.mutation.remove_headers == ()


def test_a_long_name_is_not_said_back() -> None:
    exchange = World(FakeAuthenticator(Identity("someone", "issuer", {}, frozenset({"other"})))).pipeline.open()
    exchange.handle(head())
    (reply,) = exchange.handle(body(model="\U000e0000" * 1024))
    assert isinstance(reply, ImmediateReply)
    assert reply.status == 403
    assert len(reply.body) < 4096


def test_what_plugins_may_look_up() -> None:
    world = World(FakeAuthenticator(Identity("someone", "issuer", {"team": "a", "n": 1})))
    exchange = world.pipeline.open()
    exchange.handle(head(x_session="s-1", cookie="a=b; sid=c-1"))
    look = exchange._lookup
    assert (look("header", "x-session"), look("cookie", "sid"), look("claim", "team")) == ("s-1", "c-1", "a")
    unknown = (("header", "no"), ("cookie", "no"), ("claim", "n"), ("claim", "no"), ("other", "x"))
    assert [look(*what) for what in unknown] == [None] * 5


def test_illegal_events_are_for_the_transport() -> None:
    exchange = World().pipeline.open()
    with pytest.raises(RemoteProtocolError):
        exchange.handle(body())
    exchange.close()
    assert "infer_gateway_streams 0.0" in World().page()


def test_what_is_checked_is_what_any_engine_takes_for_the_model() -> None:
    """Some JSON libraries take the first of two members, others the last."""
    identity = Identity("someone", "issuer", {}, frozenset({"m"}))
    for text, status in ((b'{"model":"secret","model":"m","prompt":"x"}', 400), (b'{"model":"m","prompt":"x"}', None)):
        exchange = World(FakeAuthenticator(identity)).pipeline.open()
        exchange.handle(head(path="/v1/completions", authorization="Bearer x"))
        (reply,) = exchange.handle(RequestBody(text, end_of_stream=True))
        assert isinstance(reply, RequestBodyReply if status is None else ImmediateReply)
        if isinstance(reply, ImmediateReply):
            assert reply.status == status
        exchange.close()


@pytest.mark.parametrize("allowed", [False, True])
def test_bodies_that_steer_engines(allowed: bool) -> None:
    world = World()
    world.pipeline.engine_controls = allowed
    fields: dict[str, Any] = {"kv_transfer_params": {"remote_host": "x"}, "bootstrap_host": "x", "rid": "10.0.0.1:80"}
    for field, value in fields.items():
        exchange = world.pipeline.open()
        exchange.handle(head())
        (reply,) = exchange.handle(body(**{field: value}))
        if allowed:
            assert isinstance(reply, RequestBodyReply)
        else:
            assert isinstance(reply, ImmediateReply)
            assert reply.status == 400
            assert msgspec.json.decode(reply.body)["error"]["param"] == field
        exchange.close()


def test_adapters_are_checked_like_models() -> None:
    """SGLang takes the adapter of `lora_path` in place of the model's own."""
    identity = Identity("someone", "issuer", {}, frozenset({"m", "mine"}))
    cases: list[tuple[Any, int | None]] = [
        ("mine", None), (["mine", None], None), ("secret", 403), (["mine", "secret"], 403),
    ]  # fmt: skip
    for adapters, status in cases:
        exchange = World(FakeAuthenticator(identity)).pipeline.open()
        exchange.handle(head(authorization="Bearer x"))
        (reply,) = exchange.handle(body(lora_path=adapters))
        assert (reply.status if isinstance(reply, ImmediateReply) else None) == status
        exchange.close()


@pytest.mark.parametrize("allowed", [False, True])
def test_request_ids_that_may_be_addresses_do_not_reach_engines(allowed: bool) -> None:
    world = World()
    world.pipeline.engine_controls = allowed
    hostile = "___prefill_addr_10.0.0.1:80___decode_addr_10.0.0.2:80"
    for request_id, kept in ((hostile, allowed), ("4c1c2f3e-9f0b-4a55", True)):
        exchange = world.pipeline.open()
        items = [(":method", b"POST"), (":path", b"/v1/chat/completions"), ("x-request-id", request_id.encode())]
        exchange.handle(RequestHeaders(Headers(items)))
        (reply,) = exchange.handle(body())
        assert isinstance(reply, RequestBodyReply)
        told = dict(reply.mutation.set_headers)
        assert ("x-request-id" in told) is not kept
        assert "addr" not in told.get("x-request-id", "")
        exchange.close()
    assert {row["request_id"] for row in world.decisions.rows(2)} == {hostile, "4c1c2f3e-9f0b-4a55"}


@pytest.mark.parametrize(
    ("claims", "seen"),
    [(None, True), ({}, False), ({"ops": True}, True), ({"ops": "true"}, False), ({"ops": 1}, False)],
)
def test_shares_of_prompts_are_for_those_who_may_see_them(claims: dict[str, Any] | None, seen: bool) -> None:
    """With them a bearer can guess, block by block, what others have asked."""
    world = World(None if claims is None else FakeAuthenticator(Identity("someone", "issuer", claims)))
    world.pipeline.explain_to_clients = True
    world.pipeline.shares_claim = "ops"
    exchange = world.pipeline.open()
    exchange.handle(head(x_gateway_debug="true", authorization="Bearer x"))
    (reply,) = exchange.handle(body())
    assert isinstance(reply, RequestBodyReply)
    assert reply.tag is not None
    words = msgspec.json.decode(reply.tag.explanation)
    assert words["pod"] in {pod.address for pod in PODS}
    assert ({"prefix_match", "scores", "total"} <= words.keys()) is seen
    if not seen:
        assert words.keys() == {"pool", "pod", "name"}
    exchange.close()


def test_a_piece_of_a_body_of_an_envoy_that_does_not_tell_is_called_so(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    for piece, status in ((b'{"model": "m", "mess', 400), (b'{"model": "m", "prompt": "p"}', None)):
        exchange = world.pipeline.open()
        exchange.handle(head())
        (reply,) = exchange.handle(RequestBody(piece))
        if status is None:
            assert isinstance(reply, RequestBodyReply)
        else:
            assert isinstance(reply, ImmediateReply)
            assert reply.status == status
            assert b"only a part of it" in reply.body
        exchange.close()
    assert "Envoy does not tell its body mode" in caplog.text


def test_objectives_of_a_foreign_gateway() -> None:
    world = World()
    world.pipeline.objectives = Objectives({"batch": -1})
    for pod in PODS:
        world.store.observe(pod.address, Sample(waiting=7), world.now)
    for name, refused in (("batch", True), ("other", False)):
        exchange = world.pipeline.open()
        exchange.handle(head(x_gateway_inference_objective=name))
        (reply,) = exchange.handle(body())
        assert isinstance(reply, ImmediateReply) is refused
        exchange.close()
