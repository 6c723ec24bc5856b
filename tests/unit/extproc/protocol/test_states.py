"""Every state × every event and every call, by a second copy of the tables; and that the copy sees each mutant of them."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from extproc.errors import LocalProtocolError, Refusal, RemoteProtocolError, bad_request
from extproc.protocol import session as real
from extproc.protocol.actions import HeadReady, RequestReady
from extproc.protocol.events import (
    BodyMode,
    ProtocolConfig,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from extproc.protocol.headers import Headers
from extproc.protocol.replies import (
    Mutation,
    RequestBodyReply,
    RequestHeadersReply,
    RequestTrailersReply,
    ResponseBodyReply,
    ResponseHeadersReply,
    ResponseTrailersReply,
)
from extproc.protocol.states import Call, EventKind, RequestState, ResponseState

ROOT = Path(__file__).parents[4]
SOURCE = ROOT / "extproc/protocol/session.py"
NONE = Headers()
PICK = Mutation(destination="127.0.0.1:80")
BUFFERED, PARTIAL, PIECES, UNSEEN = "buffered", "partial", "pieces", "unseen"
CONFIGS = {
    BUFFERED: ProtocolConfig(BodyMode.BUFFERED),
    PARTIAL: ProtocolConfig(BodyMode.BUFFERED_PARTIAL),
    PIECES: ProtocolConfig(BodyMode.STREAMED, send_body_without_waiting_for_header_response=True),
    UNSEEN: ProtocolConfig(BodyMode.NONE),
}
EVENTS: dict[str, Any] = {
    **{f"headers, {name}": RequestHeaders(NONE, config=config) for name, config in CONFIGS.items()},
    "headers alone": RequestHeaders(NONE, end_of_stream=True),
    "body": RequestBody(b"x"),
    "body end": RequestBody(b"y", end_of_stream=True),
    "too long body": RequestBody(b"x" * 101),
    "too long body end": RequestBody(b"x" * 101, end_of_stream=True),
    "trailers": RequestTrailers(NONE),
    "response headers": ResponseHeaders(NONE),
    "response headers alone": ResponseHeaders(NONE, end_of_stream=True),
    "response body": ResponseBody(b"x"),
    "response body end": ResponseBody(b"y", end_of_stream=True),
    "response trailers": ResponseTrailers(NONE),
}
CALLS = ("proceed", "route", "reject")
GO_ON, BODY_GOES_ON = RequestHeadersReply(), RequestBodyReply()
WATCHED = (ResponseHeadersReply(), ResponseBodyReply(), ResponseTrailersReply())

#: Ways into each state, by the public interface alone. A state with two histories has two ways.
WAYS: dict[str, tuple[str, list[str]]] = {
    "start": ("START", []),
    "unasked": ("UNASKED", ["response headers"]),
    "unasked, ended": ("UNASKED", ["response headers", "response body end"]),
    "head, buffered": ("HEAD", ["headers, buffered"]),
    "head, pieces": ("HEAD", ["headers, pieces"]),
    "head, unseen": ("HEAD", ["headers, unseen"]),
    "head, alone": ("HEAD", ["headers alone"]),
    "buffering": ("BUFFERING", ["headers, buffered", "proceed"]),
    "buffering a part": ("BUFFERING", ["headers, partial", "proceed"]),
    "collecting": ("COLLECTING", ["headers, pieces", "proceed"]),
    "collecting more": ("COLLECTING", ["headers, pieces", "proceed", "body"]),
    "deciding, unseen": ("DECIDING", ["headers, unseen", "proceed"]),
    "deciding, buffered": ("DECIDING", ["headers, buffered", "proceed", "body"]),
    "deciding at the end of the headers": ("DECIDING_AT_END", ["headers alone", "proceed"]),
    "deciding at the end of the body": ("DECIDING_AT_END", ["headers, buffered", "proceed", "body end"]),
    "deciding at the trailers": ("DECIDING_AT_END", ["headers, pieces", "proceed", "trailers"]),
    "routed": ("ROUTED", ["headers, unseen", "proceed", "route"]),
    "routed, buffered": ("ROUTED", ["headers, buffered", "proceed", "body", "route"]),
    "done": ("DONE", ["headers, buffered", "proceed", "body end", "route"]),
    "rejected": ("REJECTED", ["headers, buffered", "reject"]),
    "rejected at the body": ("REJECTED", ["headers, buffered", "proceed", "body", "reject"]),
}
#: Ways that have an answer already.
ANSWERED = {"unasked": "STARTED", "unasked, ended": "ENDED"}
ANSWERS = {
    "WAITING": [],
    "STARTED": ["response headers"],
    "ENDED": ["response headers", "response body end"],
}
HEAD = HeadReady
#: State and event → next state, what comes back, what is sent. What is not here is refused.
REQUEST: dict[str, dict[str, tuple[str, Any, list[object]]]] = {
    "START": {
        "headers, buffered": ("HEAD", HEAD, []),
        "headers, partial": ("HEAD", HEAD, []),
        "headers, pieces": ("HEAD", HEAD, []),
        "headers, unseen": ("HEAD", HEAD, []),
        "headers alone": ("HEAD", HEAD, []),
    },
    "HEAD": {},
    "UNASKED": {},
    "BUFFERING": {
        "too long body": ("BUFFERING", Refusal, []),
        "too long body end": ("BUFFERING", Refusal, []),
        "body": ("DECIDING", (b"x", True), []),
        "body end": ("DECIDING_AT_END", (b"y", True), []),
        "trailers": ("DECIDING_AT_END", (b"", True), []),
    },
    "COLLECTING": {
        "too long body": ("COLLECTING", Refusal, []),
        "too long body end": ("COLLECTING", Refusal, []),
        "body": ("COLLECTING", None, []),
        "body end": ("DECIDING_AT_END", (b"y", True), []),
        "trailers": ("DECIDING_AT_END", (b"", True), []),
    },
    "DECIDING": {},
    "DECIDING_AT_END": {},
    "ROUTED": {
        "body": ("ROUTED", None, [BODY_GOES_ON]),
        "too long body": ("ROUTED", None, [BODY_GOES_ON]),
        "too long body end": ("DONE", None, [BODY_GOES_ON]),
        "body end": ("DONE", None, [BODY_GOES_ON]),
        "trailers": ("DONE", None, [RequestTrailersReply()]),
    },
    "DONE": {},
    "REJECTED": {name: ("REJECTED", None, []) for name in EVENTS if not name.startswith("headers")},
}
RESPONSE: dict[str, dict[str, tuple[str, list[object]]]] = {
    "WAITING": {
        "response headers": ("STARTED", [WATCHED[0]]),
        "response headers alone": ("ENDED", [WATCHED[0]]),
        "response body": ("STARTED", [WATCHED[1]]),
        "response body end": ("ENDED", [WATCHED[1]]),
        "response trailers": ("ENDED", [WATCHED[2]]),
    },
    "STARTED": {
        "response body": ("STARTED", [WATCHED[1]]),
        "response body end": ("ENDED", [WATCHED[1]]),
        "response trailers": ("ENDED", [WATCHED[2]]),
    },
    "ENDED": {},
}
RESPONSE_MAY_COME = {"UNASKED", "BUFFERING", "COLLECTING", "ROUTED", "DONE"}
CALLER_OWES = {"HEAD", "DECIDING", "DECIDING_AT_END"}
PROCEED: dict[str, tuple[str, Any, list[object]]] = {
    "head, buffered": ("BUFFERING", None, [GO_ON]),
    "head, pieces": ("COLLECTING", None, []),
    "head, unseen": ("DECIDING", (None, False), []),
    "head, alone": ("DECIDING_AT_END", (b"", True), []),
}
ROUTE = {"DECIDING": "ROUTED", "DECIDING_AT_END": "DONE"}
MAY_REJECT = {"HEAD", "BUFFERING", "COLLECTING", "DECIDING", "DECIDING_AT_END"}
#: How `proceed()` goes on where a body follows, by the body mode, without and with "sent without waiting".
BODY_SHOWN = {
    BodyMode.NONE: ("DECIDING", "DECIDING"),
    BodyMode.STREAMED: ("DECIDING", "COLLECTING"),
    BodyMode.BUFFERED: ("BUFFERING", "BUFFERING"),
    BodyMode.BUFFERED_PARTIAL: ("BUFFERING", "BUFFERING"),
    BodyMode.FULL_DUPLEX_STREAMED: ("COLLECTING", "COLLECTING"),
    BodyMode.GRPC: ("DECIDING", "DECIDING"),
}


def do(session: Any, step: str) -> Any:
    if step == "proceed":
        return session.proceed()
    if step == "route":
        return session.route(PICK)
    if step == "reject":
        return session.reject(bad_request("no"))
    return session.receive(EVENTS[step])


def brought(module: ModuleType, *steps: str) -> Any:
    session = module.Session(max_body=100)
    for step in steps:
        do(session, step)
    session.replies_to_send()
    return session


def states(session: Any) -> tuple[str, str]:
    return session.request_state.name, session.response_state.name


def simple(action: Any) -> Any:
    """An action without the headers that it repeats."""
    if isinstance(action, HeadReady):
        return HEAD
    return (action.body, action.complete) if isinstance(action, RequestReady) else action


def check_event(module: ModuleType, way: str, answer: str, name: str) -> None:
    state, steps = WAYS[way]
    session = brought(module, *steps, *(ANSWERS[answer] if way not in ANSWERED else []))
    assert states(session) == (state, answer), "the way leads elsewhere"
    if name in REQUEST[state]:
        after, action, replies = REQUEST[state][name]
        if way == "collecting more" and isinstance(action, tuple):
            action = (b"x" + action[0], action[1])
        if way == "buffering a part" and name == "body":
            action = (b"x", False)
        if action is Refusal:
            with pytest.raises(Refusal):
                do(session, name)
        else:
            assert simple(do(session, name)) == action
        assert states(session) == (after, answer)
        assert session.replies_to_send() == replies
    elif (state in RESPONSE_MAY_COME or state == "START") and name in RESPONSE[answer]:
        following, replies = RESPONSE[answer][name]
        assert do(session, name) is EVENTS[name]
        assert states(session) == ("UNASKED" if state == "START" else state, following)
        assert session.replies_to_send() == replies
    else:
        with pytest.raises(LocalProtocolError if state in CALLER_OWES else RemoteProtocolError):
            do(session, name)
        assert (states(session), session.replies_to_send()) == ((state, answer), []), "a refused event moved the stream"


def check_call(module: ModuleType, way: str, name: str) -> None:
    state, steps = WAYS[way]
    session = brought(module, *steps)
    if name == "proceed" and way in PROCEED:
        after, action, replies = PROCEED[way]
        assert simple(session.proceed()) == action
        assert states(session) == (after, "WAITING")
        assert session.replies_to_send() == replies
    elif name == "route" and state in ROUTE:
        session.route(PICK)
        assert states(session) == (ROUTE[state], "WAITING")
        assert len(session.replies_to_send()) == 1 + (way == "deciding at the trailers")
    elif name == "reject" and state in MAY_REJECT:
        session.reject(bad_request("no"))
        assert states(session) == ("REJECTED", "WAITING")
        assert len(session.replies_to_send()) == 1
    else:
        with pytest.raises(LocalProtocolError):
            do(session, name)
        assert (states(session), session.replies_to_send()) == ((state, ANSWERED.get(way, "WAITING")), [])


def check_body_shown(module: ModuleType, mode: BodyMode, *, eager: bool) -> None:
    session = module.Session(max_body=100)
    config = ProtocolConfig(mode, send_body_without_waiting_for_header_response=eager)
    session.receive(RequestHeaders(NONE, config=config))
    session.proceed()
    assert session.request_state.name == BODY_SHOWN[mode][eager]


def events() -> Iterator[tuple[str, str, str]]:
    for way, (state, _) in WAYS.items():
        answers = [*ANSWERS] if state in RESPONSE_MAY_COME else ["WAITING"]
        for answer in answers if way not in ANSWERED else [ANSWERED[way]]:
            for name in EVENTS:
                yield way, answer, name


@pytest.mark.parametrize(("way", "answer", "event"), list(events()))
def test_every_state_and_event(way: str, answer: str, event: str) -> None:
    check_event(real, way, answer, event)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("way", WAYS)
def test_every_state_and_call(way: str, call: str) -> None:
    check_call(real, way, call)


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("mode", BodyMode)
def test_every_body_mode(mode: BodyMode, eager: bool) -> None:
    check_body_shown(real, mode, eager=eager)


def test_the_ways_reach_every_state_and_the_events_are_of_every_kind() -> None:
    assert {state for state, _ in WAYS.values()} == set(RequestState.__members__)
    assert set(ANSWERS) == set(ResponseState.__members__)
    assert {(type(event), event.end_of_stream) for event in EVENTS.values()} == {kind.value for kind in EventKind}


def test_nothing_else_assigns_a_state() -> None:
    assigned = [
        (function.name, target.attr)
        for function in ast.walk(ast.parse(SOURCE.read_text()))
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        for target in (node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)])
        if isinstance(target, ast.Attribute) and target.attr in ("request_state", "response_state")
    ]
    assert assigned == [
        ("__init__", "request_state"),
        ("__init__", "response_state"),
        ("receive", "request_state"),
        ("receive", "response_state"),
        ("_call", "request_state"),
    ]


# Mutants: each entry of a table missing, with another next state, with another step; MAY_RESPOND with one
# state less or more.


def tables(tree: ast.Module) -> dict[str, Any]:
    return {
        ast.unparse(node.target if isinstance(node, ast.AnnAssign) else node.targets[0]): node.value
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
    }


def mutants() -> Iterator[tuple[str, ast.Module]]:
    """The source with one fault each, and what the fault is. The tree is the same: take each before the next."""
    tree = ast.parse(SOURCE.read_text())
    found = tables(tree)
    for name in ("REQUEST_TABLE", "RESPONSE_TABLE", "CALL_TABLE", "PROCEED"):
        table = found[name]
        nexts = {"REQUEST_TABLE": RequestState, "RESPONSE_TABLE": ResponseState, "CALL_TABLE": RequestState}.get(
            name, Call
        )
        owners = {"REQUEST_TABLE": "_R", "RESPONSE_TABLE": "_P", "CALL_TABLE": "_R"}.get(name, "Call")
        steps = {ast.unparse(value.elts[1]) for value in table.values if isinstance(value, ast.Tuple)}
        for index, (key, value) in enumerate(zip(list(table.keys), list(table.values), strict=True)):
            entry = f"{name}[{ast.unparse(key)}]"
            if name != "PROCEED":  # it has an entry for each key there is; without one it raises KeyError
                del table.keys[index], table.values[index]
                yield f"{entry} is missing", tree
                table.keys.insert(index, key)
                table.values.insert(index, value)
            right = ast.unparse(value.elts[0] if isinstance(value, ast.Tuple) else value)
            step = [value.elts[1]] if isinstance(value, ast.Tuple) else []
            for one in nexts:
                other = f"{owners}.{one.name}"
                if other != right and other not in ("Call.ROUTE", "Call.REJECT"):
                    new = ast.parse(other, mode="eval").body
                    table.values[index] = ast.Tuple([new, *step], ast.Load()) if step else new
                    yield f"{entry} leads to {other}", tree
            for text in sorted(steps - {ast.unparse(one) for one in step}) if step else []:
                new = ast.Tuple([value.elts[0], ast.parse(text, mode="eval").body], ast.Load())
                table.values[index] = new
                yield f"{entry} takes {text}", tree
            table.values[index] = value
    members = found["MAY_RESPOND"].args[0].elts
    texts = {ast.unparse(one) for one in members}
    for index, member in enumerate(list(members)):
        del members[index]
        yield f"MAY_RESPOND without {ast.unparse(member)}", tree
        members.insert(index, member)
    for state in RequestState:
        if f"_R.{state.name}" not in texts:
            members.append(ast.parse(f"_R.{state.name}", mode="eval").body)
            yield f"MAY_RESPOND with {state.name}", tree
            members.pop()


#: Faults that change nothing that can be seen, each with its reason.
HARMLESS = {
    "MAY_RESPOND with START": "REQUEST_TABLE lists every response event in this state, and leads to UNASKED",
    "MAY_RESPOND with REJECTED": "REQUEST_TABLE lists every response event in this state, and `receive` asks it first",
}


def survives(module: ModuleType) -> bool:
    try:
        for way, (_, steps) in WAYS.items():
            assert brought(module, *steps).request_state.name == WAYS[way][0]
        for mode in BodyMode:
            for eager in (False, True):
                check_body_shown(module, mode, eager=eager)
        for way in WAYS:
            for call in CALLS:
                check_call(module, way, call)
        for case in events():
            check_event(module, *case)
    except (Exception, pytest.fail.Exception):
        return False
    return True


def loaded(tree: ast.Module, name: str) -> ModuleType:
    module = ModuleType(name)
    sys.modules[name] = module  # dataclasses and msgspec look their module up
    try:
        exec(compile(ast.fix_missing_locations(tree), name, "exec"), module.__dict__)
    finally:
        del sys.modules[name]
    return module


def test_every_mutant_of_the_tables_is_seen() -> None:
    assert survives(loaded(ast.parse(SOURCE.read_text()), "unchanged_session"))
    alive: list[str] = []
    seen = 0
    for fault, tree in mutants():
        seen += 1
        if survives(loaded(tree, "mutated_session")):
            alive.append(fault)
    assert alive == list(HARMLESS), f"of {seen} mutants"
    assert seen > 300


def test_the_document_is_made_from_the_tables() -> None:
    made = subprocess.run([sys.executable, ROOT / "docs/make_session.py"], capture_output=True, text=True, check=True)
    assert made.stdout == (ROOT / "docs/session.md").read_text(encoding="utf-8"), "make docs"
