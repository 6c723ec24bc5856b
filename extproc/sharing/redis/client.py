"""Clients of Redis or Valkey, as the configuration names the server. Nothing is connected yet."""

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from extproc.config.sections.sharing import RedisConfig, SentinelConfig
from extproc.errors import GatewayError

try:
    from redis.asyncio import Redis, RedisCluster, Sentinel
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.credentials import CredentialProvider
except ImportError as error:
    raise GatewayError("cannot start: sharing needs pip install 'infer-gateway[redis]'") from error

#: Seconds to connect.
CONNECT_TIMEOUT = 1.0

#: Replies are taken as they come: what the library makes of them differs between its versions.
_AS_IT_IS = ("XADD", "XREAD", "XREVRANGE", "TIME")


class _Credentials(CredentialProvider):
    """Reads them from their files at each connection, so that they may change."""

    def __init__(self, username_file: str | None, password_file: str) -> None:
        self._username_file = username_file
        self._password_file = password_file

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return await asyncio.to_thread(self.get_credentials)

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        password = _line(self._password_file)
        return (password,) if self._username_file is None else (_line(self._username_file), password)


def _line(path: str) -> str:
    return Path(path).read_text(encoding="utf-8").strip()


async def connected(config: RedisConfig, *, patience: float) -> "Redis | RedisCluster":
    """A client of one connection. `patience`: seconds for an answer.

    The client itself retries nothing: a retried XADD would add an entry twice.

    Raises:
        RedisError, OSError: the server is not reached.
    """
    options: dict[str, Any] = {
        "socket_timeout": patience,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "protocol": 3,
        "decode_responses": False,
        "retry": Retry(NoBackoff(), 0),
        "client_name": "infer-gateway",
    }
    if config.password_file is not None:
        options["credential_provider"] = _Credentials(config.username_file, config.password_file)
    tls: dict[str, Any] = {}
    if config.tls:
        files = {"ssl_ca_certs": config.ca_file, "ssl_certfile": config.cert_file, "ssl_keyfile": config.key_file}
        tls = {"ssl": True, **{name: path for name, path in files.items() if path is not None}}
    client = await _client(config, options, tls)
    callback: Any = _as_it_is
    for name in _AS_IT_IS:
        client.set_response_callback(name, callback)
    try:
        await client.initialize()
    except BaseException:
        await client.aclose()
        raise
    return client


async def _client(config: RedisConfig, options: dict[str, Any], tls: dict[str, Any]) -> "Redis | RedisCluster":
    url = config.url or ""
    if config.sentinel is not None:
        host, port = await _primary(config.sentinel, tls)
    elif url.startswith("unix:"):
        return Redis(
            unix_socket_path=url.removeprefix("unix://"), db=config.database, single_connection_client=True, **options
        )
    else:
        host, port = _host_port(url.partition("://")[2])
    if config.cluster:
        return RedisCluster(host=host, port=port, **options, **tls)
    # Without its pool a command takes a third less CPU.
    return Redis(host=host, port=port, db=config.database, single_connection_client=True, **options, **tls)


async def _primary(config: SentinelConfig, tls: dict[str, Any]) -> tuple[str, int]:
    """Where the Sentinels see the primary. Asked anew at each connection: one that was deposed refuses to write."""
    own: dict[str, Any] = {"socket_timeout": CONNECT_TIMEOUT, "socket_connect_timeout": CONNECT_TIMEOUT, **tls}
    if config.password_file is not None:
        own["password"] = _line(config.password_file)
    hosts = [_host_port(address) for address in config.addresses]
    found = Sentinel(hosts, sentinel_kwargs=own)  # type: ignore[no-untyped-call]
    try:
        host, port = await found.discover_master(str(config.service))
    finally:
        for one in found.sentinels:
            await one.aclose()
    return str(host), int(port)


def _host_port(address: str) -> tuple[str, int]:
    parts = urlsplit(f"//{address}")
    return str(parts.hostname), int(parts.port or 0)


def _as_it_is(reply: Any, **_: Any) -> Any:
    return reply
