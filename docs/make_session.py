"""Prints docs/session.md: the tables of the ext_proc stream's machine, and its diagram. `make docs` writes the file."""

from collections.abc import Iterable, Iterator

from extproc.protocol.session import CALL_TABLE, CALLERS_TURN, MAY_RESPOND, PROCEED, REQUEST_TABLE, RESPONSE_TABLE, Step
from extproc.protocol.states import EventKind, RequestState

INTRODUCTION = """\
# The ext_proc stream as a machine

Made from the tables of `extproc/protocol/session.py` by `make docs`; a test compares the two. Events of Envoy
are in lower case, with *last* where the message ends its half of the stream; calls of the sidecar are in upper case.
"""


def words(name: str) -> str:
    return name.strip("_").lower().replace("_", " ")


def kind(event: EventKind) -> str:
    return words(event.name.removesuffix("_END")) + (", last" if event.name.endswith("_END") else "")


def step(move: Step) -> str:
    return words(move.__name__)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    heads = list(head)
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def arrows(moves: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    """One arrow for all moves between the same two states."""
    labels: dict[tuple[str, str], list[str]] = {}
    for start, end, label in moves:
        labels.setdefault((start, end), []).append(label)
    for (start, end), texts in labels.items():
        yield f"    {start} --> {end}: {' / '.join(dict.fromkeys(texts))}"


def page() -> Iterator[str]:
    yield INTRODUCTION
    yield from ["## The request half", "", "```mermaid", "stateDiagram-v2", f"    [*] --> {RequestState.START.name}"]
    refused = RequestState.REJECTED
    yield from arrows(
        [
            *[(a.name, b.name, kind(event)) for (a, event), (b, _) in REQUEST_TABLE.items() if a is not refused],
            *[(a.name, b.name, call.name) for (a, call), b in CALL_TABLE.items()],
        ]
    )
    yield from ["```", ""]
    rows = [(a.name, kind(event), b.name, step(move)) for (a, event), (b, move) in REQUEST_TABLE.items()]
    yield from table(("state", "event", "next state", "step"), rows)
    yield from ["The sidecar's calls:", ""]
    yield from table(
        ("state", "call", "next state"), [(a.name, call.name, b.name) for (a, call), b in CALL_TABLE.items()]
    )
    owed = ", ".join(state.name for state in RequestState if state in CALLERS_TURN)
    yield f"In {owed} the sidecar owes a call, before any event. An event that no table lists ends the stream."
    yield from ["", "Which call `proceed()` is where the request has a body:", ""]
    modes = [(mode.name, "yes" if eager else "no", call.name) for (mode, eager), call in PROCEED.items()]
    yield from table(("request body mode", "sent without waiting for the reply to the headers", "call"), modes)
    yield from ["## The response half", "", "```mermaid", "stateDiagram-v2", "    [*] --> WAITING"]
    yield from arrows([(a.name, b.name, kind(event)) for (a, event), (b, _) in RESPONSE_TABLE.items()])
    yield from ["```", ""]
    rows = [(a.name, kind(event), b.name, step(move)) for (a, event), (b, move) in RESPONSE_TABLE.items()]
    yield from table(("state", "event", "next state", "step"), rows)
    possible = ", ".join(state.name for state in RequestState if state in MAY_RESPOND)
    yield f"A response may come while the request half is in {possible}."


if __name__ == "__main__":
    print("\n".join(page()))
