"""What a real API server said (kube-apiserver 1.20.2 with etcd), byte for byte."""

from pathlib import Path

import pytest

from extproc.discovery.kubernetes.objects import PodObject
from extproc.discovery.kubernetes.pods import pods_of
from extproc.discovery.kubernetes.store import BadAnswer, Lines, Store, read_page, read_status
from scheduler.types import Pod

DATA = Path(__file__).parents[4] / "data" / "kubernetes"


def complain(text: str) -> None:
    raise AssertionError(text)


def recorded(name: str) -> bytes:
    return (DATA / name).read_bytes()


def test_a_list_in_pages_and_the_watch_that_follows() -> None:
    store = Store(PodObject, complain)
    first, second = read_page(recorded("pods_page_1.json")), read_page(recorded("pods_page_2.json"))
    assert first.metadata.more
    assert not second.metadata.more
    store.replace(store.read(first.items or ()) | store.read(second.items or ()), second.metadata.resource_version)
    assert [one.metadata.name for one in store.objects] == ["vllm-0", "vllm-1"]
    lines = Lines().feed(recorded("pods_watch.jsonl"))
    seen = [(store.apply(line), [pod.address for pod in pods_of(store.objects, ("http",))]) for line in lines]
    assert seen == [
        (True, ["10.1.0.7:8000"]),
        (True, ["10.1.0.7:8000", "10.1.0.8:8000"]),
        # Its label was changed.
        (True, ["10.1.0.7:8000"]),
        # It is being deleted, then it is.
        (True, []),
        (True, []),
        # Bookmarks.
        *[(False, [])] * 3,
    ]
    assert not store.objects
    assert store.version == "1384"


def test_labels_and_names() -> None:
    store = Store(PodObject, complain)
    store.replace({}, "1")
    store.apply(Lines().feed(recorded("pods_watch.jsonl"))[0])
    assert pods_of(store.objects, (8000, 8001)) == [
        Pod("10.1.0.7:8000", "vllm-0:8000", {"app": "vllm"}),
        Pod("10.1.0.7:8001", "vllm-0:8001", {"app": "vllm"}),
    ]


def test_a_version_that_is_too_old() -> None:
    store = Store(PodObject, complain)
    store.replace({}, "1")
    (line,) = Lines().feed(recorded("watch_410.jsonl"))
    with pytest.raises(BadAnswer, match="410 too old resource version: 1 "):
        store.apply(line)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("status_401.json", "Unauthorized"),
        ("status_403.json", 'pods is forbidden: User "reader" cannot list resource "pods" in API group "" in the'),
        ("status_500.json", 'resourceVersion: Invalid value: "zz"'),
    ],
)
def test_errors(name: str, message: str) -> None:
    status = read_status(recorded(name))
    assert status.message.startswith(message)
    assert status.code == int(name[7:10])
