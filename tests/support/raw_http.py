"""Requests byte for byte, as no client library would send them, over HTTP/1 and HTTP/2."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import h2.config
import h2.connection
import h2.events
import h2.settings
from support.eventually import PATIENCE

Fields = Sequence[tuple[str, str]]


class RawAnswer(NamedTuple):
    #: Every status that was sent, interim ones too; empty where the connection was closed without an answer.
    statuses: tuple[int, ...]
    headers: dict[str, str]
    body: bytes
    #: Of HTTP/2.
    trailers: Fields = ()

    @property
    def status(self) -> int:
        """The final status; 0 for none."""
        return self.statuses[-1] if self.statuses else 0


def request(start: str, headers: Fields = (), body: bytes = b"") -> bytes:
    """An HTTP/1 request. Names and values go out as they are given, in latin-1."""
    lines = [start, *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


async def http1(address: str, data: bytes, *, answers: int = 1) -> RawAnswer:
    """Sends bytes and reads that many final answers, or until the other side closes. Gives back the last one."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    statuses: list[int] = []
    headers: dict[str, str] = {}
    body = b""
    try:
        async with asyncio.timeout(PATIENCE):
            writer.write(data)
            await writer.drain()
            while answers:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.strip().split("\r\n")
                statuses.append(int(first.split()[1]))
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                if statuses[-1] >= 200:
                    answers -= 1
                    if headers.get("transfer-encoding") == "chunked":
                        body = await _chunks(reader)
                    else:
                        length = 0 if data.startswith(b"HEAD") else int(headers.get("content-length", 0))
                        body = await reader.readexactly(length)
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()
    return RawAnswer(tuple(statuses), headers, body)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int(await reader.readline(), 16):
        parts.append(await reader.readexactly(size))
        await reader.readline()
    await reader.readline()
    return b"".join(parts)


async def http2(address: str, headers: Fields, body: bytes | None = None, trailers: Fields | None = None) -> RawAnswer:
    """One request over HTTP/2 without TLS, by prior knowledge. `headers` hold the pseudo-headers, too."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    # What is sent is not to be what hyper-h2 finds right.
    config = h2.config.H2Configuration(
        client_side=True, header_encoding="latin-1", validate_outbound_headers=False, normalize_outbound_headers=False
    )
    connection = h2.connection.H2Connection(config)
    connection.initiate_connection()
    connection.send_headers(1, list(headers), end_stream=body is None and trailers is None)
    if body is not None:
        connection.send_data(1, body, end_stream=trailers is None)
    if trailers is not None:
        connection.send_headers(1, list(trailers), end_stream=True)
    statuses: list[int] = []
    received: dict[str, str] = {}
    content = bytearray()
    last: Fields = ()
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                writer.write(connection.data_to_send())
                await writer.drain()
                data = await reader.read(65536)
                if not data:
                    break
                ended = False
                for event in connection.receive_data(data):
                    if isinstance(event, h2.events.ResponseReceived | h2.events.InformationalResponseReceived):
                        fields = {str(name): str(value) for name, value in event.headers}
                        statuses.append(int(fields[":status"]))
                        received = fields
                    elif isinstance(event, h2.events.TrailersReceived):
                        last = [(str(name), str(value)) for name, value in event.headers]
                    elif isinstance(event, h2.events.DataReceived):
                        content += event.data
                        connection.acknowledge_received_data(event.flow_controlled_length, 1)
                    elif isinstance(
                        event, h2.events.StreamEnded | h2.events.StreamReset | h2.events.ConnectionTerminated
                    ):
                        ended = True
                if ended:
                    break
    except ConnectionError:
        pass
    finally:
        writer.close()
    return RawAnswer(tuple(statuses), received, bytes(content), last)
