from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
import yaml

from extproc.discovery.kubernetes.credentials import Cluster, CredentialsError
from extproc.discovery.kubernetes.kubeconfig import MAX_FILE, read_kubeconfig


def write(folder: Path, *, cluster: Any = None, user: Any = None, context: Any = None, **top: Any) -> Path:
    path = folder / "config"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "preferences": {},
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": "https://h:6443/", **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [
            {"name": "here", "context": {"cluster": "c", "user": "u", **(context or {})}},
            {"name": "nobody", "context": {"cluster": "c", "namespace": "n"}},
        ],
        **top,
    }
    path.write_text(yaml.safe_dump(document))
    return path


def test_a_token(tmp_path: Path) -> None:
    path = write(tmp_path, user={"token": "t"})
    assert read_kubeconfig(path) == Cluster(server="https://h:6443", token=b"t")
    assert read_kubeconfig(path, "nobody") == Cluster(server="https://h:6443", namespace="n")


def test_files_are_beside_it(tmp_path: Path) -> None:
    user = {"tokenFile": "t", "token": "ignored", "client-certificate": "c.pem", "client-key": "/k.pem"}
    cluster = {"certificate-authority": "ca.pem", "tls-server-name": "kubernetes"}
    assert read_kubeconfig(write(tmp_path, user=user, cluster=cluster)) == Cluster(
        server="https://h:6443",
        token=tmp_path / "t",
        certificate=tmp_path / "c.pem",
        key=Path("/k.pem"),
        ca=tmp_path / "ca.pem",
        server_name="kubernetes",
    )


def test_data_before_files(tmp_path: Path) -> None:
    def data(text: bytes) -> str:
        return b64encode(text).decode()

    user = {"client-certificate-data": data(b"c"), "client-certificate": "x", "client-key-data": data(b"k")}
    cluster = {"certificate-authority-data": data(b"ca"), "insecure-skip-tls-verify": True}
    assert read_kubeconfig(write(tmp_path, user=user, cluster=cluster)) == Cluster(
        server="https://h:6443", certificate=b"c", key=b"k", ca=b"ca", verify=False
    )


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"user": {"exec": {"command": "aws"}}}, r"users\.u\.exec: exec plugins are not supported: use a token"),
        ({"user": {"auth-provider": {"name": "gcp"}}}, r"users\.u\.auth-provider: auth providers are not supported"),
        ({"user": {"username": "me", "password": "x"}}, r"users\.u\.username: passwords are not supported"),
        ({"user": {"as": "admin", "token": "t"}}, r"users\.u\.as: impersonation is not supported"),
        ({"user": {"client-key": "k"}}, r"must be given together"),
        ({"user": {"client-key-data": "?", "client-certificate": "c"}}, "not base64"),
        ({"cluster": {"server": "h:6443"}}, r"clusters\.c\.server must be a URL"),
        ({"cluster": {"proxy-url": "http://p"}}, r"clusters\.c\.proxy-url is not supported"),
        ({"current-context": ""}, "no current-context"),
        ({"current-context": "there"}, "there is no context 'there': here, nobody"),
        ({"clusters": None}, "there is no cluster 'c': none"),
        ({"users": [{"name": "x", "user": {}}]}, "there is no user 'u': x"),
        ({"users": 5}, "not a kubeconfig: Expected"),
        ({"users": [{"name": "u"}]}, "not a kubeconfig: .*user"),
    ],
)
def test_what_is_not_supported(tmp_path: Path, parts: dict[str, Any], reason: str) -> None:
    with pytest.raises(CredentialsError, match=reason) as raised:
        read_kubeconfig(write(tmp_path, **parts))
    assert str(raised.value).startswith(str(tmp_path / "config"))


def test_what_is_no_kubeconfig(tmp_path: Path) -> None:
    path = tmp_path / "config"
    with pytest.raises(CredentialsError, match="cannot read .*config: No such file"):
        read_kubeconfig(path)
    for content in (b"{", b"[]", b"\xff\xfe\xfa", b""):
        path.write_bytes(content)
        with pytest.raises(CredentialsError, match="not a kubeconfig"):
            read_kubeconfig(path)
    path.write_bytes(b" " * (MAX_FILE + 1))
    with pytest.raises(CredentialsError, match="larger than"):
        read_kubeconfig(path)
