"""What a server proves by TLS and asks for: certificates from files that may change, or one made at the start."""

import datetime
import logging
import os
import ssl
from pathlib import Path
from typing import Final

import msgspec

log = logging.getLogger(__name__)

#: Days that a certificate made at the start is valid: longer than any process runs. Clients cannot verify it anyway.
SELF_SIGNED_DAYS: Final = 3650
#: RFC 9113 section 9.2.2 forbids all others of TLS 1.2, which Envoy speaks as a client unless configured otherwise.
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"


class Tls(msgspec.Struct, frozen=True):
    """What the server proves, and what it asks of clients. Without files: a self-signed certificate."""

    #: PEM: the certificate and what leads to its root; and its key, which must have no passphrase.
    cert_file: str | None = None
    key_file: str | None = None
    #: PEM. Given: only clients with a certificate of these authorities are served.
    client_ca_file: str | None = None


class Pem(msgspec.Struct, frozen=True):
    """PEM texts that were seen to work together."""

    certificate: bytes
    key: bytes
    #: Authorities of clients; None: every client is served.
    client_ca: bytes | None
    #: The same, ready for connections.
    context: ssl.SSLContext


class Certificates:
    """The certificates of a `Tls` as they are now: `load` once, then ask what has `changed`. One thread at a time."""

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._made: tuple[bytes, bytes] | None = None
        if tls.cert_file is None or tls.key_file is None:
            self._made = _self_signed()
        self._seen: tuple[tuple[int, int, int], ...] = ()

    @property
    def asks_clients(self) -> bool:
        """Whether clients have to prove something, too."""
        return self._tls.client_ca_file is not None

    def load(self) -> Pem:
        """Reads the files.

        Raises:
            OSError: one cannot be read, or does not hold what it should.
        """
        tls = self._tls
        self._seen = self._identity()
        client_ca = None if tls.client_ca_file is None else Path(tls.client_ca_file).read_bytes()
        if self._made is not None:
            certificate, key = self._made
        else:
            certificate, key = Path(str(tls.cert_file)).read_bytes(), Path(str(tls.key_file)).read_bytes()
        return Pem(certificate, key, client_ca, self._context(certificate, key))

    def changed(self) -> Pem | None:
        """What is new since the last look; None: nothing, or what is new cannot be used."""
        try:
            if self._identity() == self._seen:
                return None
            found = self.load()
        except OSError as error:
            # Perhaps caught half-written. The certificate in use goes on, and the next connection looks again.
            self._seen = ()
            log.warning("TLS certificate not loaded", extra={"detail": str(error)})
            return None
        log.info("TLS certificate loaded", extra={"file": self._tls.cert_file or self._tls.client_ca_file})
        return found

    def _identity(self) -> tuple[tuple[int, int, int], ...]:
        names = (self._tls.cert_file, self._tls.key_file, self._tls.client_ca_file)
        paths = [Path(name) for name in names if name is not None]
        return tuple([(found.st_ino, found.st_mtime_ns, found.st_size) for found in map(Path.stat, paths)])

    def _context(self, certificate: bytes, key: bytes) -> ssl.SSLContext:
        """A new one each time: what was resumed under old authorities of clients is not resumed under new ones."""
        tls = self._tls
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(CIPHERS)
        context.options |= ssl.OP_NO_RENEGOTIATION
        # Some gateways do not name a protocol; that it is HTTP/2 is seen by its first bytes.
        context.set_alpn_protocols(["h2"])
        try:
            _load_pair(context, certificate, key)
        except OSError as error:
            names = f"{tls.cert_file} with key {tls.key_file}" if self._made is None else "made at the start"
            raise OSError(f"cannot use certificate {names}: {error}") from error
        if tls.client_ca_file is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            try:
                context.load_verify_locations(tls.client_ca_file)
            except OSError as error:
                raise OSError(f"cannot use the authorities in {tls.client_ca_file}: {error}") from error
        return context


def _load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """The standard library takes files only: one in memory, so that the pair is that which was read."""

    def no_passphrase() -> str:
        raise OSError("the key has a passphrase")

    file = os.memfd_create("infer-gateway-tls")
    try:
        os.write(file, key + b"\n" + certificate)
        context.load_cert_chain(f"/proc/self/fd/{file}", None, no_passphrase)
    finally:
        os.close(file)


def _self_signed() -> tuple[bytes, bytes]:
    """Certificate and key in PEM."""
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
        certificate.public_bytes(pem),
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
