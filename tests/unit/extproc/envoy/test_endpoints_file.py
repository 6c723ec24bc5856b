import json
from pathlib import Path

import pytest

from extproc.envoy.endpoints_file import EndpointsFile, render
from scheduler.types import Pod


def addresses(text: str) -> list[tuple[str, int]]:
    (assignment,) = json.loads(text)["resources"]
    assert assignment["cluster_name"] == "models"
    sockets = [
        endpoint["endpoint"]["address"]["socket_address"] for endpoint in assignment["endpoints"][0]["lb_endpoints"]
    ]
    return [(socket["address"], socket["port_value"]) for socket in sockets]


def test_the_order_of_pods_does_not_matter() -> None:
    pods = [Pod("10.0.0.2:80"), Pod("[2001:db8::1]:8000"), Pod("10.0.0.1:80")]
    assert render(pods) == render(pods[::-1])
    assert addresses(render(pods)) == [("10.0.0.1", 80), ("10.0.0.2", 80), ("2001:db8::1", 8000)]


def test_written_whole_into_a_folder_that_is_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "endpoints.yaml"
    file = EndpointsFile(path)
    file.write([Pod("10.0.0.1:80")])
    before = path.stat().st_ino
    assert addresses(path.read_text()) == [("10.0.0.1", 80)]
    file.write([Pod("10.0.0.1:80")])
    assert path.stat().st_ino == before  # nothing changed, nothing written
    file.write([])
    assert path.stat().st_ino != before  # a new file in the old one's place, never half of one
    assert addresses(path.read_text()) == []
    assert [entry.name for entry in path.parent.iterdir()] == ["endpoints.yaml"]


def test_a_file_from_before_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.yaml"
    EndpointsFile(path).write([Pod("10.0.0.1:80")])
    EndpointsFile(path).keep_or_create()
    assert addresses(path.read_text()) == [("10.0.0.1", 80)]
    path.unlink()
    EndpointsFile(path).keep_or_create()
    assert addresses(path.read_text()) == []


def test_what_another_process_writes_meanwhile_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Standby and active process start together: with an empty file, all requests would be refused until pods change."""
    path = tmp_path / "endpoints.yaml"
    EndpointsFile(path).write([Pod("10.0.0.1:80")])
    # As it was when the other one looked.
    monkeypatch.setattr(Path, "exists", lambda _path: False)
    EndpointsFile(path).keep_or_create()
    assert addresses(path.read_text()) == [("10.0.0.1", 80)]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        EndpointsFile(tmp_path / "file" / "endpoints.yaml").write([])


def test_pools_are_told_beside_the_addresses() -> None:
    text = render([Pod("10.0.0.1:80"), Pod("10.0.0.2:80")], {"10.0.0.1:80": ["b", "a"]})
    (assignment,) = json.loads(text)["resources"]
    first, second = assignment["endpoints"][0]["lb_endpoints"]
    assert first["metadata"] == {"filter_metadata": {"envoy.lb": {"x-gateway-pool": ["a", "b"]}}}
    assert "metadata" not in second
