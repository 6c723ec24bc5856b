"""TLS for grpc.aio."""

import grpc

from extproc.transport.tls import Certificates, Pem


def server_credentials(certificates: Certificates) -> grpc.ServerCredentials:
    """Credentials that follow their files: a new certificate is used from the next connection on.

    Raises:
        OSError: a file cannot be read, or does not hold what it should.
    """

    def changed() -> grpc.ServerCertificateConfiguration | None:
        # Asked by grpc for each connection, from a thread of its own.
        found = certificates.changed()
        return None if found is None else _configuration(found)

    # What grpc is given it does not check before the first connection, and then only fails that: `load` has checked it.
    return grpc.dynamic_ssl_server_credentials(
        _configuration(certificates.load()), changed, require_client_authentication=certificates.asks_clients
    )


def _configuration(pem: Pem) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pem.key, pem.certificate)], pem.client_ca)
