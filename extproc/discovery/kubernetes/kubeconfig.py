"""A kubeconfig file, as kubectl has it: tokens and client certificates. Nothing that runs another program."""

import binascii
from base64 import b64decode
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from extproc.discovery.kubernetes.credentials import Cluster, CredentialsError, Material

#: Bytes of a file that is read. One with hundreds of clusters is below it.
MAX_FILE = 1 << 20


class _ClusterEntry(msgspec.Struct, rename="kebab"):
    server: str = ""
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""


class _UserEntry(
    msgspec.Struct,
    rename={
        "token_file": "tokenFile",
        "client_certificate": "client-certificate",
        "client_certificate_data": "client-certificate-data",
        "client_key": "client-key",
        "client_key_data": "client-key-data",
        "auth_provider": "auth-provider",
        "impersonate": "as",
    },
):
    token: str = ""
    token_file: str = ""
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    exec: Any = None
    auth_provider: Any = None
    username: str = ""
    impersonate: str = ""


class _ContextEntry(msgspec.Struct):
    cluster: str = ""
    user: str = ""
    namespace: str = ""


class _NamedCluster(msgspec.Struct):
    name: str
    cluster: _ClusterEntry


class _NamedUser(msgspec.Struct):
    name: str
    user: _UserEntry


class _NamedContext(msgspec.Struct):
    name: str
    context: _ContextEntry


class _Kubeconfig(msgspec.Struct, rename="kebab"):
    current_context: str = ""
    clusters: list[_NamedCluster] | None = None
    users: list[_NamedUser] | None = None
    contexts: list[_NamedContext] | None = None


_Named = TypeVar("_Named", _NamedCluster, _NamedUser, _NamedContext)

_REFUSED = "are not supported: use a token, a tokenFile or a client certificate (a service account's token will do)"


def read_kubeconfig(path: Path, context: str = "") -> Cluster:
    """The cluster of a context; of the current one, where none is named.

    Raises:
        CredentialsError: the file cannot be read, or asks for what is not supported.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise CredentialsError(f"{path}: larger than {MAX_FILE} bytes")
        config = msgspec.convert(yaml.safe_load(data), _Kubeconfig)
    except OSError as error:
        raise CredentialsError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise CredentialsError(f"{path}: not a kubeconfig: {' '.join(str(error).split())}") from error
    try:
        return _cluster(config, context or config.current_context, path.parent)
    except ValueError as error:
        raise CredentialsError(f"{path}: {error}") from error


def _cluster(config: _Kubeconfig, name: str, folder: Path) -> Cluster:
    if not name:
        raise ValueError("it has no current-context, and no context is named")
    context = _by_name(config.contexts, name, "context").context
    cluster = _by_name(config.clusters, context.cluster, "cluster").cluster
    user = _by_name(config.users, context.user, "user").user if context.user else _UserEntry()
    where = f"users.{context.user}"
    if not cluster.server.startswith(("https://", "http://")):
        raise ValueError(f"clusters.{context.cluster}.server must be a URL")
    if cluster.proxy_url:
        raise ValueError(f"clusters.{context.cluster}.proxy-url is not supported")
    if user.exec is not None:
        raise ValueError(f"{where}.exec: exec plugins {_REFUSED}")
    if user.auth_provider is not None:
        raise ValueError(f"{where}.auth-provider: auth providers {_REFUSED}")
    if user.username:
        raise ValueError(f"{where}.username: passwords {_REFUSED}")
    if user.impersonate:
        raise ValueError(f"{where}.as: impersonation is not supported")
    certificate = _material(user.client_certificate_data, user.client_certificate, folder)
    key = _material(user.client_key_data, user.client_key, folder)
    if (certificate is None) != (key is None):
        raise ValueError(f"{where}: a client certificate and its key must be given together")
    return Cluster(
        server=cluster.server.rstrip("/"),
        namespace=context.namespace or "default",
        ca=_material(cluster.certificate_authority_data, cluster.certificate_authority, folder),
        # As client-go has it: the file before the text.
        token=folder / user.token_file if user.token_file else (user.token.encode() or None),
        certificate=certificate,
        key=key,
        verify=not cluster.insecure_skip_tls_verify,
        server_name=cluster.tls_server_name,
    )


def _by_name(entries: list[_Named] | None, name: str, kind: str) -> _Named:
    for one in entries or ():
        if one.name == name:
            return one
    known = ", ".join(one.name for one in entries or ()) or "none"
    raise ValueError(f"there is no {kind} {name!r}: {known}")


def _material(data: str, file: str, folder: Path) -> Material | None:
    if data:
        try:
            return b64decode(data, validate=True)
        except binascii.Error as error:
            raise ValueError(f"data that is not base64: {error}") from error
    # Relative to the file, not to where somebody happens to stand.
    return folder / file if file else None
