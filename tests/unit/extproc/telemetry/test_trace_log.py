import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.pipeline_world import body, finish, head

from extproc.outcome.outcome import Outcome
from extproc.protocol.events import TokenUsage
from extproc.telemetry.finished import Ended
from extproc.telemetry.trace_log import BLOCK_TOKENS, MAX_BLOCKS, TraceFile, TraceLog, read_key
from scheduler.types import Decision, Pod, Prompt, Request, Snapshot

KEY = b"k" * 32
SNAPSHOT = Snapshot.of([Pod("127.0.0.1:1")])
DECISION = Decision(
    pods=SNAPSHOT.pods, candidates=SNAPSHOT, total=[0.0], scores={}, weights={}, filtered={}, uncached_tokens=1,
    prefix_match=None,
)  # fmt: skip


class Log:
    def __init__(self, key: bytes = KEY, characters: float = 4.0) -> None:
        self.lines: list[bytes] = []
        self.trace = TraceLog(key, self.lines.append, characters)

    def tell(self, text: str, *, status: int | None = 200, subject: str = "", **usage: int) -> Any:
        prompt = Prompt([text])
        self.trace.ended(
            Ended(
                at=1000.5, seconds=0.25, decision_seconds=0.0, model="m", pool="default",
                request=Request(model="m", prompt=prompt), decision=DECISION,
                outcome=Outcome(status=status, usage=TokenUsage(**usage)), subject=subject,
                blocks=self.trace.blocks("m", prompt),
            )
        )  # fmt: skip
        return json.loads(self.lines[-1]) if self.lines else None


def ids(text: str, key: bytes = KEY, model: str = "m") -> tuple[int, ...]:
    return TraceLog(key, print, 4.0).blocks(model, Prompt([text]))


def test_a_line_has_what_the_format_wants_and_no_word_of_the_prompt() -> None:
    log = Log()
    secret = "the merger with Initech " * 200
    line = log.tell(secret, subject="alice@example.com", prompt=1200, completion=77)
    assert line["timestamp"] == 1_000_250
    assert (line["input_length"], line["output_length"], line["model"]) == (1200, 77, "m")
    assert len(line["hash_ids"]) == 3
    text = log.lines[0].decode()
    assert "merger" not in text
    assert "alice" not in text


@given(st.text(), st.text(), st.text())
def test_ids_are_equal_as_far_as_prompts_are_in_whole_blocks(common: str, left: str, right: str) -> None:
    size = BLOCK_TOKENS * 4
    common = (common or "x") * (size // len(common or "x") + 2)
    one, other = common + left, common + right
    first, second = ids(one), ids(other)
    equal = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    whole = equal // size
    assert first[:whole] == second[:whole]
    if one != other:
        assert first != second
    assert all(0 <= name < 2**52 for name in first)
    assert len(first) == -(-len(one) // size)


def test_another_key_or_model_gives_other_ids() -> None:
    text = "a" * 5000
    assert len({ids(text), ids(text, b"j" * 32), ids(text, model="n")}) == 3
    assert not set(ids(text)) & set(ids(text, b"j" * 32))


def test_a_block_is_named_by_all_before_it() -> None:
    block = "a" * (BLOCK_TOKENS * 4)
    assert len(set(ids(block * 4))) == 4


@pytest.mark.parametrize("tokens", [1, 512, 513, 1500, 5000])
def test_there_are_as_many_ids_as_blocks_of_tokens_whatever_the_text_suggests(tokens: int) -> None:
    one, other = (Log().tell("a" * 4000, prompt=tokens, completion=1) for _ in range(2))
    assert len(one["hash_ids"]) == -(-tokens // 512)
    assert one["hash_ids"] == other["hash_ids"]


def test_ids_are_bounded() -> None:
    assert len(TraceLog(KEY, print, 0.25).blocks("m", Prompt(["a" * 128 * (MAX_BLOCKS + 5)]))) == MAX_BLOCKS
    assert len(Log().tell("a", prompt=10**9, completion=1)["hash_ids"]) == MAX_BLOCKS


def test_tokens_that_nobody_counted_are_estimated() -> None:
    line = Log().tell("a" * 4096)
    assert (line["input_length"], line["output_length"]) == (1025, 0)


@pytest.mark.parametrize(("status", "told"), [(200, 1), (None, 1), (429, 1), (503, 1), (400, 0), (404, 0)])
def test_what_clients_did_wrong_is_no_load(status: int | None, told: int) -> None:
    log = Log()
    log.tell("a" * 4096, status=status)
    assert len(log.lines) == told


def test_requests_without_a_prompt_are_not_told() -> None:
    log = Log()
    log.tell("")
    assert not log.lines


def test_tenants_are_told_apart_and_not_named() -> None:
    log = Log()
    tenants = [log.tell("a" * 10, subject=subject)["tenant"] for subject in ("alice", "bob", "alice", "")]
    assert tenants[0] == tenants[2] != tenants[1]
    assert tenants[3] == ""
    assert Log(b"j" * 32).tell("a" * 10, subject="alice")["tenant"] != tenants[0]


# The file


def test_the_file_is_readable_by_its_owner_alone_and_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    for line in (b"1\n", b"2\n"):
        file = TraceFile(str(path), 100, lambda: None)
        file.write(line)
        file.close()
        file.write(b"late\n")
    assert path.read_bytes() == b"1\n2\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_is_full_takes_no_more_and_says_so_once(tmp_path: Path) -> None:
    said: list[bool] = []
    file = TraceFile(str(tmp_path / "trace"), 5, lambda: said.append(True))
    for _ in range(5):
        file.write(b"12\n")
    assert (tmp_path / "trace").read_bytes() == b"12\n"
    assert said == [True]
    file.close()


def test_after_a_line_that_was_cut_off_the_next_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trace"
    file = TraceFile(str(path), 1000, lambda: None)
    write = os.write
    monkeypatch.setattr(os, "write", lambda to, data: write(to, data[:3]))
    with pytest.raises(OSError, match="cut off"):
        file.write(b'{"a":1}\n')
    monkeypatch.setattr(os, "write", write)
    file.write(b'{"a":2}\n')
    file.close()
    assert path.read_bytes() == b'{"a\n{"a":2}\n'


@pytest.mark.parametrize(("content", "key"), [(b"x" * 16, b"x" * 16), (b"y" * 64 + b"\n", b"y" * 64)])
def test_a_key_is_read_without_its_line_end(tmp_path: Path, content: bytes, key: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    assert read_key(str(path)) == key


@pytest.mark.parametrize("content", [b"", b"x" * 15 + b"\n", b"x" * 65, b"x" * 5000])
def test_a_key_of_the_wrong_length_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="16 to 64"):
        read_key(str(path))


# In the pipeline


def test_the_whole_prompt_is_named_though_only_its_head_is_kept() -> None:
    from support.pipeline_world import World

    world = World()
    log = Log()
    world.pipeline.context.blocks = log.trace.blocks
    world.pipeline.context.witnesses = [log.trace]
    text = "word " * 20_000
    exchange = world.pipeline.open()
    exchange.handle(head())
    exchange.handle(body(messages=[{"role": "user", "content": text}]))
    finish(world, exchange, usage=TokenUsage(prompt=25_000, completion=9))
    line = json.loads(log.lines[0])
    assert len(line["hash_ids"]) == 49
    assert len(set(line["hash_ids"])) == 49
