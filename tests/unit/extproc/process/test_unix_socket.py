import socket
import stat
from pathlib import Path

import pytest

from extproc.process.unix_socket import UnixListener


def connects(path: Path, listener: UnixListener) -> bool:
    """Whether a connection to `path` arrives at `listener`."""
    listener.socket.settimeout(0)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        try:
            accepted, _ = listener.socket.accept()
        except BlockingIOError:
            return False
        accepted.close()
        return True


def test_listens_for_this_user_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "s.sock"
    listener = UnixListener(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["s.sock"]
    assert connects(path, listener)
    listener.close()
    assert not path.exists()
    listener.close()


def test_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    listener = UnixListener(path)
    assert connects(path, listener)
    listener.close()


def test_takeover(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    old = UnixListener(path)
    new = UnixListener(path)
    assert connects(path, new)
    assert not connects(path, old)
    old.close()
    assert connects(path, new)
    new.close()
    assert not path.exists()
    assert list(tmp_path.iterdir()) == []


def test_name_left_over_from_a_crash_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getpid", lambda: 42)
    (tmp_path / ".s.sock.42").touch()
    UnixListener(tmp_path / "s.sock").close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    path.write_text("precious")
    with pytest.raises(OSError, match="is no socket"):
        UnixListener(path)
    assert path.read_text() == "precious"


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="cannot listen on .*too long"):
        UnixListener(tmp_path / ("x" * 200))
    assert list(tmp_path.iterdir()) == []
