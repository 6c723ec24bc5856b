"""Address of the API server, and the gateway's credentials for it."""

import os
import ssl
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

#: What Kubernetes mounts into every pod that has a service account.
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
#: Seconds for which files are not read again. The kubelet renews a token when a fifth of its life is left, which is
#: ten minutes at the least.
REREAD = 60.0


class CredentialsError(Exception):
    """There is no way to the API server: something is not there, cannot be read, or is not supported."""


#: PEM or a token: itself, or the file that has it and may change.
Material = bytes | Path


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """An API server and how to be let in."""

    #: `https://host:port`, perhaps with a path.
    server: str
    #: Where objects are that are named without one.
    namespace: str = "default"
    #: Certificate authorities of the server; None: the system's.
    ca: Material | None = None
    token: Material | None = None
    #: Of the client; both or neither.
    certificate: Material | None = None
    key: Material | None = None
    #: False accepts any certificate of the server.
    verify: bool = True
    #: Name that the server's certificate must have, where it is not that of `server`.
    server_name: str = ""


class Access(msgspec.Struct, frozen=True):
    """What one request needs."""

    token: str
    tls: ssl.SSLContext | None


def in_cluster(environ: Mapping[str, str], folder: Path = SERVICE_ACCOUNT) -> Cluster:
    """The cluster that this process is a pod of.

    Raises:
        CredentialsError: it is none.
    """
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "")
    if not host or not port:
        raise CredentialsError(
            "not in a cluster: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set (elsewhere, a"
            " kubeconfig is needed)"
        )
    if not (folder / "token").is_file():
        raise CredentialsError(
            f"there is no token in {folder}: the pod needs a serviceAccountName, and automountServiceAccountToken"
            " must not be false"
        )
    try:
        namespace = (folder / "namespace").read_text().strip()
    except OSError:
        namespace = ""
    return Cluster(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        namespace=namespace or "default",
        ca=folder / "ca.crt",
        token=folder / "token",
    )


class Credentials:
    """What is in the files of a cluster's access, read again now and then.

    Args:
        cluster: where, and as whom.
        clock: monotonic seconds.
    """

    def __init__(self, cluster: Cluster, clock: Callable[[], float] = time.monotonic) -> None:
        self.cluster = cluster
        self._clock = clock
        self._access: Access | None = None
        self._read_at = 0.0
        #: What the TLS context was made of.
        self._made_of: tuple[bytes, bytes, bytes] | None = None
        self._tls: ssl.SSLContext | None = None

    def access(self) -> Access:
        """What to show now.

        Raises:
            CredentialsError: a file cannot be read, or is not what it should be.
        """
        now = self._clock()
        if self._access is None or now - self._read_at >= REREAD:
            self._access = self._read()
            self._read_at = now
        return self._access

    def expire(self) -> None:
        """Reads everything again the next time: the server did not accept it, or its certificate is not trusted."""
        self._access = None

    def _read(self) -> Access:
        cluster = self.cluster
        token = _content(cluster.token).decode("latin-1").strip()
        if not token.isprintable() or not token.isascii():
            raise CredentialsError(f"{_named(cluster.token, 'the token')} is not a token")
        if cluster.token is not None and not token:
            raise CredentialsError(f"{_named(cluster.token, 'the token')} is empty")
        if not cluster.server.startswith("https:"):
            return Access(token, None)
        made_of = _content(cluster.ca), _content(cluster.certificate), _content(cluster.key)
        if self._tls is None or made_of != self._made_of:
            self._tls = _context(cluster, *made_of)
            self._made_of = made_of
        return Access(token, self._tls)


def _content(material: Material | None) -> bytes:
    if not isinstance(material, Path):
        return material or b""
    try:
        return material.read_bytes()
    except OSError as error:
        raise CredentialsError(f"cannot read {material}: {error.strerror}") from error


def _named(material: Material | None, otherwise: str) -> str:
    return str(material) if isinstance(material, Path) else otherwise


def _context(cluster: Cluster, ca: bytes, certificate: bytes, key: bytes) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=ca.decode("ascii") if ca else None)
        if not cluster.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if certificate:
            _load_chain(context, certificate + b"\n" + key)
    except (ssl.SSLError, ValueError, OSError) as error:
        raise CredentialsError(f"the certificates for {cluster.server} cannot be used: {error}") from error
    return context


def _load_chain(context: ssl.SSLContext, pem: bytes) -> None:
    """The ssl module takes a client's certificate from files only: this one is in memory, and readable by us alone.

    A root file system that is read-only has no place for another one.
    """
    if not hasattr(os, "memfd_create"):  # not Linux
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            file.write(pem)
            file.flush()
            context.load_cert_chain(file.name, password=_no_password)
        return
    with os.fdopen(os.memfd_create("client-certificate", os.MFD_CLOEXEC), "wb") as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}", password=_no_password)


def _no_password() -> str:
    # Without this, OpenSSL asks at the terminal, and start-up hangs.
    raise ValueError("a key with a password is not supported")
