import msgspec

from extproc.protocol.events import LogEntry, TokenUsage
from extproc.sharing.entries import Entries
from scheduler.pool.shared import Event

ENTRY = LogEntry("00ff", 200, "10.0.0.1:8000", 1, "via_upstream", TokenUsage(prompt=3), {"x": "1"})


def test_an_entry_arrives_as_it_was_sent() -> None:
    sent: list[Event] = []
    got: list[LogEntry] = []
    here, there = Entries(sent.append), Entries(sent.append)
    there.other().apply([msgspec.to_builtins(ENTRY)])  # nobody listens yet
    there.on_entry = got.append
    here.forward(ENTRY)
    other = there.other()
    for event in sent:
        other.apply(msgspec.msgpack.decode(msgspec.msgpack.encode(event)))
    assert got == [ENTRY]
    # Nothing is remembered of it.
    other.end()
    assert here.in_flight() == []
    assert list(here.notes()) == []
