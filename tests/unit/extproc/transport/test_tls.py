"""TLS with real handshakes: what the server proves, what it asks for, and files that change under it."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from grpc_health.v1 import health_pb2
from support.eventually import PATIENCE

from extproc.transport.grpcio import GrpcServer
from extproc.transport.http2.server import Http2Server
from extproc.transport.tls import Tls


class Metrics:
    def protocol_error(self) -> None: ...


Server = type[GrpcServer] | type[Http2Server]


@pytest.fixture(params=[GrpcServer, Http2Server])
def kind(request: pytest.FixtureRequest) -> Server:
    made: Server = request.param
    return made


def server(kind: Server, tls: Tls | None, address: str = "127.0.0.1:0") -> GrpcServer | Http2Server:
    return kind(
        None, Metrics(), None, address=address, max_body=1 << 20, max_streams=100, tls=tls  # type: ignore[arg-type] # no stream is opened
    )  # fmt: skip


@asynccontextmanager
async def serving(kind: Server, tls: Tls) -> AsyncIterator[str]:
    one = server(kind, tls)
    address = await one.start()
    try:
        yield address
    finally:
        await one.stop(0)


class Files:
    """Certificate and key as files, of an authority of their own."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.cert, self.key = folder / "tls.crt", folder / "tls.key"
        self.renew()

    def renew(self) -> bytes:
        """A new pair. Returns the certificate in DER."""
        issued = self.authority.issue_cert("localhost", "127.0.0.1")
        for path, content in (
            (self.key, issued.private_key_pem.bytes()),
            (self.cert, b"".join(pem.bytes() for pem in issued.cert_chain_pems)),
        ):
            # As Kubernetes does it: another file in its place.
            new = path.with_suffix(".new")
            new.write_bytes(content)
            new.replace(path)
        return ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())

    def tls(self, **more: str) -> Tls:
        return Tls(cert_file=str(self.cert), key_file=str(self.key), **more)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


async def ask(address: str, root: bytes, client: trustme.LeafCert | None = None) -> str:
    """The liveness that a client learns; it trusts `root`."""
    identity = {}
    if client is not None:
        identity = {
            "private_key": client.private_key_pem.bytes(),
            "certificate_chain": client.cert_chain_pems[0].bytes(),
        }
    options = [("grpc.ssl_target_name_override", "localhost"), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(root, **identity), options) as channel:
        call = channel.unary_unary("/grpc.health.v1.Health/Check")
        request = health_pb2.HealthCheckRequest(service="liveness").SerializeToString()
        answer = await call(request, timeout=PATIENCE)
    status = health_pb2.HealthCheckResponse.FromString(answer).status
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(status))


async def shown(address: str) -> bytes:
    """The certificate that a new connection is shown, in DER; it is not verified."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    async with asyncio.timeout(PATIENCE):
        _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return found


async def test_a_given_certificate(kind: Server, files: Files) -> None:
    async with serving(kind, files.tls()) as address:
        assert await ask(address, files.authority.cert_pem.bytes()) == "SERVING"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(address, trustme.CA().cert_pem.bytes())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_certificate_made_at_the_start(kind: Server) -> None:
    async with serving(kind, Tls()) as address:
        certificate = await shown(address)
        assert await ask(address, ssl.DER_cert_to_PEM_cert(certificate).encode()) == "SERVING"
        # Each process has its own.
        async with serving(kind, Tls()) as other:
            assert await shown(other) != certificate
    assert x509.load_der_x509_certificate(certificate).issuer.rfc4514_string() == "CN=infer-gateway"


async def test_plain_text_is_not_answered(kind: Server, files: Files) -> None:
    async with serving(kind, files.tls()) as address, grpc.aio.insecure_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=PATIENCE)


async def test_only_clients_of_the_authority_are_served(kind: Server, files: Files, tmp_path: Path) -> None:
    clients = trustme.CA()
    trusted = tmp_path / "clients.crt"
    trusted.write_bytes(clients.cert_pem.bytes())
    root = files.authority.cert_pem.bytes()
    async with serving(kind, files.tls(client_ca_file=str(trusted))) as address:
        assert await ask(address, root, clients.issue_cert("envoy.example")) == "SERVING"
        for wrong in (None, trustme.CA().issue_cert("envoy.example")):
            with pytest.raises(grpc.aio.AioRpcError):
                await ask(address, root, wrong)
    async with serving(kind, Tls(client_ca_file=str(trusted))) as address:
        root = ssl.DER_cert_to_PEM_cert(await shown(address)).encode()
        assert await ask(address, root, clients.issue_cert("envoy.example")) == "SERVING"
        with pytest.raises(grpc.aio.AioRpcError):
            await ask(address, root)


async def test_a_new_certificate_is_used_from_the_next_connection_on(
    kind: Server, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    first = ssl.PEM_cert_to_DER_cert(files.cert.read_text())
    async with serving(kind, files.tls()) as address:
        assert await shown(address) == first
        second = files.renew()
        assert await shown(address) == second != first
        assert await ask(address, files.authority.cert_pem.bytes()) == "SERVING"
    assert [one.message for one in caplog.records].count("TLS certificate loaded") == 1


async def test_what_cannot_be_used_leaves_the_certificate_in_use(
    kind: Server, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    first = ssl.PEM_cert_to_DER_cert(files.cert.read_text())
    good = files.cert.read_bytes()
    async with serving(kind, files.tls()) as address:
        for spoil in (lambda: files.cert.write_bytes(good[:100]), files.cert.unlink):
            caplog.clear()
            spoil()
            assert await shown(address) == first
            assert "TLS certificate not loaded" in caplog.text
        second = files.renew()
        assert await shown(address) == second


async def test_new_authorities_of_clients_are_used(kind: Server, files: Files, tmp_path: Path) -> None:
    old, new = trustme.CA(), trustme.CA()
    trusted = tmp_path / "clients.crt"
    trusted.write_bytes(old.cert_pem.bytes())
    root = files.authority.cert_pem.bytes()
    async with serving(kind, files.tls(client_ca_file=str(trusted))) as address:
        assert await ask(address, root, old.issue_cert("envoy.example")) == "SERVING"
        trusted.with_suffix(".new").write_bytes(new.cert_pem.bytes())
        trusted.with_suffix(".new").replace(trusted)
        assert await ask(address, root, new.issue_cert("envoy.example")) == "SERVING"
        with pytest.raises(grpc.aio.AioRpcError):
            await ask(address, root, old.issue_cert("envoy.example"))


def no_key(files: Files) -> None:
    files.key.unlink()


def no_pair(files: Files) -> None:
    files.key.write_bytes(files.authority.issue_cert("localhost").private_key_pem.bytes())


def no_certificate(files: Files) -> None:
    files.cert.write_text("a note\n")


def passphrase(files: Files) -> None:
    key = load_pem_private_key(files.key.read_bytes(), None)
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (no_key, "No such file"),
        (no_pair, "cannot use certificate"),
        (no_certificate, "cannot use certificate"),
        (passphrase, "passphrase"),
    ],
)
async def test_what_cannot_be_used_stops_the_start(
    kind: Server, files: Files, spoil: Callable[[Files], None], reason: str
) -> None:
    spoil(files)
    one = server(kind, files.tls())
    with pytest.raises(OSError, match=reason):
        await one.start()
    await one.stop(0)


async def test_authorities_that_are_none_stop_the_start(kind: Server, files: Files, tmp_path: Path) -> None:
    empty = tmp_path / "empty.crt"
    empty.touch()
    for tls in (files.tls(client_ca_file=str(empty)), Tls(client_ca_file=str(empty))):
        one = server(kind, tls)
        with pytest.raises(OSError, match="cannot use the authorities"):
            await one.start()
        await one.stop(0)


async def test_tls_is_not_for_unix_sockets(kind: Server, tmp_path: Path) -> None:
    one = server(kind, Tls(), f"unix://{tmp_path}/s.sock")
    with pytest.raises(OSError, match="TLS is for TCP"):
        await one.start()
    await one.stop(0)
