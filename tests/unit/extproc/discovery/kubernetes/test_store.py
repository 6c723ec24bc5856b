"""What events add up to: the same as a fresh list, in whatever order and pieces they come."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.kube_api import pod, status, versioned

from extproc.discovery.kubernetes.objects import PodObject
from extproc.discovery.kubernetes.store import BadAnswer, Lines, Store, read_page, read_status

COMPLAINTS: list[str] = []


@pytest.fixture(autouse=True)
def _no_complaints() -> None:
    COMPLAINTS.clear()


def store(limit: int = 10_000) -> Store[PodObject]:
    return Store(PodObject, COMPLAINTS.append, limit)


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def event(kind: str, body: dict[str, Any], version: int) -> bytes:
    return json.dumps({"type": kind, "object": versioned(body, version)}).encode()


def filled(*names: str, limit: int = 10_000) -> Store[PodObject]:
    one = store(limit)
    one.replace(one.read([raw(pod(name, "10.0.0.1")) for name in names]), "1")
    return one


def names(one: Store[PodObject]) -> list[str]:
    return [item.metadata.name for item in one.objects]


NAMES = st.sampled_from(["a", "b", "c", "d"])
CHANGES = st.lists(st.tuples(NAMES, st.sampled_from(["10.0.0.1", "10.0.0.2", None])), max_size=30)


@given(before=CHANGES, after=CHANGES, relist=st.integers(0, 30), again=st.integers(0, 3))
def test_events_add_up_to_a_fresh_list(before: Any, after: Any, relist: int, again: int) -> None:
    """With a list somewhere on the way, and events that come twice, as after a resumed watch."""
    truth: dict[str, dict[str, Any]] = {}
    followed = store()
    followed.replace({}, "1")
    lines: list[bytes] = []
    for version, (name, ip) in enumerate([*before, *after], 2):
        if ip is None:
            body = truth.pop(name, None)
            if body is None:
                continue
            kind = "DELETED"
        else:
            kind, body = "MODIFIED" if name in truth else "ADDED", pod(name, ip)
            truth[name] = body
        lines.append(event(kind, body, version))
        assert followed.apply(lines[-1])
        if version == relist:
            followed.replace(followed.read([raw(one) for one in truth.values()]), str(version))
    # The last of them again, in order: what a watch from an older version brings.
    for line in lines[len(lines) - again :]:
        followed.apply(line)
    fresh = store()
    fresh.replace(fresh.read([raw(one) for one in truth.values()]), "9")
    assert {one.metadata.name: one for one in followed.objects} == {one.metadata.name: one for one in fresh.objects}
    assert not COMPLAINTS


@given(st.lists(st.binary(max_size=20), max_size=10), st.integers(1, 7))
def test_lines_come_out_whole_however_they_come_in(lines: list[bytes], size: int) -> None:
    stream = b"".join(line.replace(b"\n", b"") + b"\n" for line in lines)
    cutter = Lines()
    found = [line for start in range(0, len(stream), size) for line in cutter.feed(stream[start : start + size])]
    assert found == Lines().feed(stream)
    assert found == [line.strip() for line in stream.split(b"\n") if line.strip()]


def test_a_line_has_a_limit() -> None:
    cutter = Lines(limit=10)
    assert cutter.feed(b"0123456789\n01234") == [b"0123456789"]
    with pytest.raises(BadAnswer, match="more than 10 bytes"):
        cutter.feed(b"567890")
    with pytest.raises(BadAnswer):
        Lines(limit=10).feed(b"01234567890\n")


def test_a_list_replaces_everything() -> None:
    one = filled("a", "b")
    one.replace(one.read([raw(pod("b", "10.0.0.1")), raw(pod("c", "10.0.0.1"))]), "7")
    assert names(one) == ["b", "c"]
    assert one.version == "7"


def test_a_bookmark_moves_the_version_only() -> None:
    one = filled("a")
    line = (
        b'{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"12746","creationTimestamp":null}}}'
    )
    assert not one.apply(line)
    assert one.version == "12746"
    # So do types that nobody has thought of yet.
    assert not one.apply(event("RENAMED", pod("x", "10.0.0.1"), 12747))
    assert (names(one), one.version) == (["a"], "12747")


def test_one_name_in_two_namespaces() -> None:
    one = filled("a")
    one.apply(event("ADDED", pod("a", "10.0.0.2", namespace="other"), 2))
    assert len(one.objects) == 2
    one.apply(event("DELETED", pod("a", "10.0.0.2", namespace="other"), 3))
    assert names(one) == ["a"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            json.dumps({"type": "ERROR", "object": status(410, "too old resource version: 1 (5)")}).encode(),
            "410 too old",
        ),
        (json.dumps({"type": "ERROR", "object": status(500, "PrevKv=nil")}).encode(), "500 PrevKv=nil"),
        (b'{"type":"ERROR","object":5}', "an error in the watch: 0 "),
        (b"<html>", "cannot be read"),
        (b'{"type":"ADDED"}', "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b'{"type":"ADDED","object":' + b"[" * 100_000, "cannot be read"),
        (b'{"type":"ADDED","object":{"metadata":{"name":"x"}}}', "without a resourceVersion"),
        (b'{"type":"ADDED","object":{"metadata":5}}', "without usable metadata"),
        (b'{"type":"ADDED","object":{"metadata":{"name":"\xff"}}}', "."),
    ],
)
def test_what_a_watch_cannot_go_on_from_changes_nothing(line: bytes, reason: str) -> None:
    one = filled("a")
    with pytest.raises(BadAnswer, match=reason):
        one.apply(line)
    assert (names(one), one.version) == (["a"], "1")


def test_a_list_must_say_where_to_go_on() -> None:
    one = filled("a")
    with pytest.raises(BadAnswer, match="resourceVersion"):
        one.replace({}, "")
    assert (names(one), one.version) == (["a"], "1")


def test_what_cannot_be_read_leaves_what_was_known() -> None:
    one = filled("a")
    broken = {"metadata": {"name": "a"}, "status": {"conditions": "?"}}
    assert one.apply(event("MODIFIED", broken, 2))
    assert one.version == "2"
    assert names(one) == ["a"]
    one.replace(one.read([raw(broken), raw(pod("b", "10.0.0.1"))]), "3")
    assert names(one) == ["a", "b"]
    # Of what was never known, there is nothing to keep.
    one.apply(event("ADDED", {**broken, "metadata": {"name": "c"}}, 4))
    assert names(one) == ["a", "b"]
    assert [text.split(" cannot be read: ")[0] for text in COMPLAINTS] == ["/a", "/a", "/c"]


def test_there_is_a_limit() -> None:
    one = filled("a", "b", "c", limit=2)
    assert names(one) == ["a", "b"]
    one.apply(event("ADDED", pod("d", "10.0.0.1"), 2))
    one.apply(event("MODIFIED", pod("b", "10.0.0.9"), 3))
    assert names(one) == ["a", "b"]
    assert [item.status.pod_ip for item in one.objects] == ["10.0.0.1", "10.0.0.9"]
    assert COMPLAINTS == ["objects beyond 2 are left out"] * 2


def test_pages() -> None:
    page = read_page(b'{"kind":"PodList","metadata":{"resourceVersion":"8","continue":"t"},"items":null}')
    assert (page.metadata.resource_version, page.metadata.more, page.items) == ("8", "t", None)
    for bad in (b"<html>", b"[]", b"\xff", b'{"items":5}'):
        with pytest.raises(BadAnswer, match="cannot be read"):
            read_page(bad)


def test_the_words_of_an_error() -> None:
    assert read_status(json.dumps(status(403, "no")).encode()).message == "no"
    assert read_status(b"404 page not found\n").message == ""
    assert read_status(b"\xff").message == ""
