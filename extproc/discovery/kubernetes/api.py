"""Requests to the API server."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from types import TracebackType
from typing import Self

import aiohttp

from extproc.discovery.kubernetes.credentials import Credentials
from extproc.discovery.kubernetes.store import read_status

#: Seconds to connect, TLS included. The API server is in the same cluster, or the same city.
CONNECT_TIMEOUT = 10.0
#: Bytes that are read of an error's own words.
MAX_STATUS = 64 << 10

_HEADERS = {
    "Accept": "application/json",
    # So that limits are those of what arrives.
    "Accept-Encoding": "identity",
    "User-Agent": "infer-gateway",
}


class Refused(Exception):
    """The API server answered, and not with what was asked for."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status} {message or _phrase(status)}"[:300].rstrip())
        self.status = status


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


class ApiServer:
    """The API server of a cluster. An async context manager."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # Never a proxy's or a .netrc's business: aiohttp's default is not to look.
        self._session = aiohttp.ClientSession(headers=_HEADERS, cookie_jar=aiohttp.DummyCookieJar())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def get(
        self, path: str, parameters: Mapping[str, str], *, read_timeout: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer, its body not yet read. What is not accepted any more is read from its file again, once.

        Args:
            path: with a leading slash.
            parameters: of the query.
            read_timeout: seconds without a byte.

        Raises:
            Refused: any status but 200.
            CredentialsError, aiohttp.ClientError, OSError: there is no answer.
        """
        try:
            async with self._send(path, parameters, read_timeout) as response:
                if response.status != 401:
                    await _check(response)
                    yield response
                    return
        except aiohttp.ClientConnectorCertificateError:
            # Its authority may have changed: see whether the file has, the next time.
            self._credentials.expire()
            raise
        self._credentials.expire()
        async with self._send(path, parameters, read_timeout) as response:
            await _check(response)
            yield response

    @asynccontextmanager
    async def _send(
        self, path: str, parameters: Mapping[str, str], read_timeout: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._session is not None, "enter it first"  # noqa: S101 - a mistake of ours
        access = self._credentials.access()
        cluster = self._credentials.cluster
        async with self._session.get(
            cluster.server + path,
            params=parameters,
            headers={"Authorization": f"Bearer {access.token}"} if access.token else {},
            # Elsewhere is not where the token is meant for.
            allow_redirects=False,
            ssl=True if access.tls is None else access.tls,
            server_hostname=cluster.server_name or None,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT, sock_read=read_timeout),
        ) as response:
            yield response


async def read_body(response: aiohttp.ClientResponse, limit: int) -> bytes | None:
    """All of it; None where it is more than `limit` bytes."""
    data = bytearray()
    async for part in response.content.iter_any():
        data += part
        if len(data) > limit:
            return None
    return bytes(data)


async def _check(response: aiohttp.ClientResponse) -> None:
    if response.status != 200:
        status = read_status(await read_body(response, MAX_STATUS) or b"")
        raise Refused(response.status, status.message or response.reason or "")
