import os
import ssl
import tempfile
from pathlib import Path

import pytest
import trustme

from extproc.discovery.kubernetes.credentials import REREAD, Cluster, Credentials, CredentialsError, in_cluster

ENVIRON = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
SERVER = "https://10.96.0.1:443"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def account(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("one\n")
    (tmp_path / "namespace").write_text("models")
    (tmp_path / "ca.crt").write_bytes(trustme.CA().cert_pem.bytes())
    return tmp_path


def test_in_a_pod(account: Path) -> None:
    cluster = in_cluster(ENVIRON, account)
    assert (cluster.server, cluster.namespace) == (SERVER, "models")
    access = Credentials(cluster).access()
    assert access.token == "one"
    assert access.tls is not None
    assert access.tls.verify_mode == ssl.CERT_REQUIRED
    assert len(access.tls.get_ca_certs()) == 1
    assert in_cluster({**ENVIRON, "KUBERNETES_SERVICE_HOST": "fd00::1"}, account).server == "https://[fd00::1]:443"
    (account / "namespace").unlink()
    assert in_cluster(ENVIRON, account).namespace == "default"


def test_not_in_a_pod(account: Path) -> None:
    with pytest.raises(CredentialsError, match="not in a cluster"):
        in_cluster({}, account)
    (account / "token").unlink()
    with pytest.raises(CredentialsError, match="serviceAccountName"):
        in_cluster(ENVIRON, account)


def test_files_are_read_again_now_and_then(account: Path) -> None:
    clock = Clock()
    credentials = Credentials(in_cluster(ENVIRON, account), clock)
    before = credentials.access()
    (account / "token").write_text("two")
    clock.now = REREAD - 1
    assert credentials.access() is before
    clock.now = REREAD
    after = credentials.access()
    assert after.token == "two"
    # Connections are kept by their TLS context.
    assert after.tls is before.tls
    (account / "token").write_text("three")
    credentials.expire()
    assert credentials.access().token == "three"
    (account / "ca.crt").write_bytes(trustme.CA().cert_pem.bytes())
    credentials.expire()
    assert credentials.access().tls is not before.tls


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("token", b"", "token is empty"),
        ("token", b"a\nb", "token is not a token"),
        ("token", b"\xff", "token is not a token"),
        ("token", None, "cannot read .*token: No such file"),
        ("ca.crt", b"nonsense", "certificates for https://10.96.0.1:443 cannot be used"),
        ("ca.crt", b"\xff", "certificates for"),
        ("ca.crt", None, "cannot read .*ca.crt"),
    ],
)
def test_files_that_are_wrong(account: Path, name: str, content: bytes | None, reason: str) -> None:
    cluster = in_cluster(ENVIRON, account)
    if content is None:
        (account / name).unlink()
    else:
        (account / name).write_bytes(content)
    credentials = Credentials(cluster)
    for _ in range(2):
        with pytest.raises(CredentialsError, match=reason):
            credentials.access()


def test_client_certificates(tmp_path: Path) -> None:
    one = trustme.CA().issue_cert("gateway")
    certificate, key = one.cert_chain_pems[0].bytes(), one.private_key_pem.bytes()
    (tmp_path / "key").write_bytes(key)
    assert Credentials(Cluster(server=SERVER, certificate=certificate, key=tmp_path / "key")).access().tls is not None
    with pytest.raises(CredentialsError, match="cannot be used"):
        Credentials(Cluster(server=SERVER, certificate=certificate, key=b"nonsense")).access()


def test_a_client_certificate_needs_no_place_to_write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A root file system that is read-only, without /tmp."""
    one = trustme.CA().issue_cert("client.example")
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "none")])
    with pytest.raises(FileNotFoundError):
        tempfile.gettempdir()
    certificate, key = one.cert_chain_pems[0].bytes(), one.private_key_pem.bytes()
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count
    assert Credentials(Cluster(server=SERVER, certificate=certificate, key=key)).access().tls is not None
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_where_there_are_no_files_in_memory_a_client_certificate_leaves_no_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delattr(os, "memfd_create")  # as outside Linux
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    one, other = trustme.CA().issue_cert("client.example"), trustme.CA().issue_cert("other.example")
    certificate, key = one.cert_chain_pems[0].bytes(), one.private_key_pem.bytes()
    assert Credentials(Cluster(server=SERVER, certificate=certificate, key=key)).access().tls is not None
    with pytest.raises(CredentialsError, match="cannot be used"):
        Credentials(Cluster(server=SERVER, certificate=certificate, key=other.private_key_pem.bytes())).access()
    assert list(tmp_path.iterdir()) == []


def test_a_key_with_a_password_does_not_ask_at_the_terminal() -> None:
    from cryptography.hazmat.primitives import serialization

    one = trustme.CA().issue_cert("gateway")
    plain = serialization.load_pem_private_key(one.private_key_pem.bytes(), None)
    key = plain.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    with pytest.raises(CredentialsError, match="password is not supported"):
        Credentials(Cluster(server=SERVER, certificate=one.cert_chain_pems[0].bytes(), key=key)).access()


def test_without_verification() -> None:
    tls = Credentials(Cluster(server=SERVER, verify=False)).access().tls
    assert tls is not None
    assert (tls.verify_mode, tls.check_hostname) == (ssl.CERT_NONE, False)


def test_without_tls() -> None:
    access = Credentials(Cluster(server="http://127.0.0.1:8001", token=b"t")).access()
    assert (access.token, access.tls) == ("t", None)
