"""TLS for a gRPC server: certificates from files, read again when they change, or one made at the start."""

import datetime
import logging
import ssl
from pathlib import Path
from typing import Final

import grpc
import msgspec

log = logging.getLogger(__name__)

#: Days that a certificate made at the start is valid: longer than any process runs. Clients cannot verify it anyway.
SELF_SIGNED_DAYS: Final = 3650


class Tls(msgspec.Struct, frozen=True):
    """What the server proves, and what it asks of clients. Without files: a self-signed certificate."""

    #: PEM: the certificate and what leads to its root; and its key, which must have no passphrase.
    cert_file: str | None = None
    key_file: str | None = None
    #: PEM. Given: only clients with a certificate of these authorities are served.
    client_ca_file: str | None = None


def server_credentials(tls: Tls) -> grpc.ServerCredentials:
    """Credentials that follow their files: a new certificate is used from the next connection on.

    Raises:
        OSError: a file cannot be read, or does not hold what it should.
    """
    client_ca = None
    if tls.client_ca_file is not None:
        client_ca = Path(tls.client_ca_file).read_bytes()
        _check_authorities(tls.client_ca_file)
    if tls.cert_file is None or tls.key_file is None:
        return grpc.ssl_server_credentials([_self_signed()], client_ca, require_client_auth=client_ca is not None)
    files = _Files(tls.cert_file, tls.key_file, tls.client_ca_file)
    return grpc.dynamic_ssl_server_credentials(
        files.load(), files.changed, require_client_authentication=client_ca is not None
    )


class _Files:
    """Certificate files as they were when last used."""

    def __init__(self, cert_file: str, key_file: str, client_ca_file: str | None) -> None:
        self._cert, self._key = Path(cert_file), Path(key_file)
        self._client_ca = None if client_ca_file is None else Path(client_ca_file)
        self._seen: tuple[tuple[int, int, int], ...] = ()

    def load(self) -> grpc.ServerCertificateConfiguration:
        """Reads the files.

        Raises:
            OSError: one cannot be read, or certificate and key are no pair.
        """
        self._seen = self._identity()
        # What grpc is given it does not check before the first connection, and then only fails that.
        _check_pair(self._cert, self._key)
        client_ca = None
        if self._client_ca is not None:
            _check_authorities(str(self._client_ca))
            client_ca = self._client_ca.read_bytes()
        pair = (self._key.read_bytes(), self._cert.read_bytes())
        return grpc.ssl_server_certificate_configuration([pair], client_ca)

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """What is new since the last look, asked by grpc for each connection from a thread of its own."""
        try:
            if self._identity() == self._seen:
                return None
            found = self.load()
        except OSError as error:
            # Perhaps caught half-written. The certificate in use goes on, and the next connection looks again.
            self._seen = ()
            log.warning("TLS certificate not loaded", extra={"detail": str(error)})
            return None
        log.info("TLS certificate loaded", extra={"file": str(self._cert)})
        return found

    def _identity(self) -> tuple[tuple[int, int, int], ...]:
        paths = [path for path in (self._cert, self._key, self._client_ca) if path is not None]
        return tuple([(found.st_ino, found.st_mtime_ns, found.st_size) for found in map(Path.stat, paths)])


def _check_pair(cert: Path, key: Path) -> None:
    def no_passphrase() -> str:
        raise OSError("the key has a passphrase")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, no_passphrase)
    except OSError as error:
        raise OSError(f"cannot use certificate {cert} with key {key}: {error}") from error


def _check_authorities(path: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
    except OSError as error:
        raise OSError(f"cannot use the authorities in {path}: {error}") from error


def _self_signed() -> tuple[bytes, bytes]:
    """Key and certificate in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "infer-gateway")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Clocks of other machines may be behind.
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=SELF_SIGNED_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return (
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        certificate.public_bytes(pem),
    )
