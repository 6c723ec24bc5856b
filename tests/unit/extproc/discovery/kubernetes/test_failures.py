"""The words of a failure: never empty, and the same each time."""

import ssl
from typing import Any

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from extproc.discovery.contact import Reason
from extproc.discovery.kubernetes.api import Refused
from extproc.discovery.kubernetes.credentials import CredentialsError
from extproc.discovery.kubernetes.failures import reason_and_words
from extproc.discovery.kubernetes.store import BadAnswer

KEY = ConnectionKey("api", 6443, is_ssl=True, ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None)


def request_info(query: str) -> Any:
    url = URL(f"https://api:6443/api/v1/pods?watch=true&timeoutSeconds={query}")
    return aiohttp.RequestInfo(url, "GET", CIMultiDictProxy(CIMultiDict()), url)


ERRORS = [
    (Refused(401, "Unauthorized"), Reason.UNAUTHORIZED, "401 Unauthorized"),
    (Refused(403, "pods is forbidden"), Reason.FORBIDDEN, "403 pods is forbidden"),
    (Refused(404, ""), Reason.NOT_FOUND, "404 Not Found"),
    (Refused(503, ""), Reason.BUSY, "503 Service Unavailable"),
    (Refused(799, ""), Reason.BUSY, "799"),
    (Refused(302, "Found"), Reason.REFUSED, "302 Found"),
    (CredentialsError("no token"), Reason.CREDENTIALS, "no token"),
    (CredentialsError(), Reason.CREDENTIALS, "CredentialsError"),
    (BadAnswer("a list"), Reason.BAD_ANSWER, "a list"),
    (TimeoutError(), Reason.TIMEOUT, "no answer in time"),
    (aiohttp.ServerTimeoutError(), Reason.TIMEOUT, "no answer in time"),
    (
        aiohttp.ClientConnectorError(KEY, ConnectionRefusedError(111, "Connection refused")),
        Reason.CONNECT,
        "cannot connect to api:6443: Connection refused",
    ),
    (aiohttp.ClientConnectorError(KEY, OSError()), Reason.CONNECT, "cannot connect to api:6443: OSError"),
    (
        aiohttp.ClientConnectorCertificateError(KEY, ssl.CertificateError("wrong host")),
        Reason.CONNECT,
        "cannot connect to api:6443: ('wrong host',)",
    ),
    (aiohttp.ServerDisconnectedError(), Reason.CUT, "the connection ended early"),
    (aiohttp.ClientPayloadError("Response payload is not completed"), Reason.CUT, "the connection ended early"),
    (ConnectionResetError(104, "Connection reset by peer"), Reason.CUT, "the connection ended early"),
    (OSError(24, "Too many open files"), Reason.CONNECT, "Too many open files"),
    (aiohttp.ClientError(), Reason.BAD_ANSWER, "ClientError"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "reason", "words"), ERRORS, ids=[f"{type(one[0]).__name__} {one[2]}" for one in ERRORS]
)
def test_a_reason_and_words(error: Exception, reason: Reason, words: str) -> None:
    assert reason_and_words(error) == (reason, words)


def test_what_differs_each_time_is_not_in_them() -> None:
    one, other = (
        reason_and_words(aiohttp.ClientResponseError(request_info(query), (), status=400, message="bad header"))
        for query in ("241", "479")
    )
    assert one == other == (Reason.BAD_ANSWER, "not an answer of HTTP: bad header")
