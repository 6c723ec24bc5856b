"""A DNS server on loopback, UDP and TCP on one port: what it says, and how it fails, is under the test's hand."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

#: What a client takes by UDP that says nothing else (RFC 1035).
UDP_SIZE = 512

Failure = dns.rcode.Rcode | str


class DnsServer:
    """Names it does not know do not exist (NXDOMAIN).

    `failures` has what is done instead of answering a question: an rcode to answer with, or "silence" or "garbage". Its keys
    are a name, or a name and a type of record.
    """

    def __init__(self) -> None:
        self.port = 0
        self.records: dict[tuple[str, str], tuple[int, list[str]]] = {}
        #: Sent along with the answers to the names.
        self.additional: dict[str, list[tuple[str, str]]] = {}
        self.failures: dict[str | tuple[str, str], Failure] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.without_tcp = False
        self._closers: list[Callable[[], None]] = []
        self._servers: list[asyncio.Server] = []

    def put(self, name: str, rdtype: str, *values: str, ttl: int = 30) -> None:
        """Replaces the records of a name and type; with no values, the name exists and has none."""
        self.records[(name, rdtype)] = (ttl, list(values))

    def remove(self, name: str) -> None:
        self.records = {key: value for key, value in self.records.items() if key[0] != name}

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """On a port that is free for both, or a given one."""
        loop = asyncio.get_running_loop()
        for _ in range(20):
            server = await asyncio.start_server(self._tcp, host, port)
            bound = server.sockets[0].getsockname()[1]
            try:
                transport, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), (host, bound))
            except OSError:
                # Somebody else has this port for UDP.
                server.close()
                continue
            self.port = bound
            self._servers.append(server)
            self._closers += [server.close, transport.close]
            return
        raise RuntimeError("no port is free for both")

    async def stop(self) -> None:
        for close in self._closers:
            close()
        for server in self._servers:
            await server.wait_closed()
        await asyncio.sleep(0)

    def answer(self, wire: bytes, by: str) -> bytes | None:
        query = dns.message.from_wire(wire)
        (question,) = query.question
        name, rdtype = question.name.to_text().lower().rstrip("."), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, rdtype, by))
        failure = self.failures.get((name, rdtype), self.failures.get(name))
        if failure == "silence":
            return None
        if failure == "garbage":
            return wire[:2] + b"\x84\x00\x00\x01\x00\x09\x00\x00\x00\x00" + wire[12:]
        response = dns.message.make_response(query, recursion_available=True)
        if isinstance(failure, dns.rcode.Rcode):
            response.set_rcode(failure)
        else:
            self._fill(response, name, rdtype)
        if by == "udp":
            return response.to_wire(max_size=UDP_SIZE, prefer_truncation=True)
        return response.to_wire()

    def _fill(self, response: dns.message.Message, name: str, rdtype: str) -> None:
        for _ in range(8):
            if not any(known == name for known, _ in self.records):
                response.set_rcode(dns.rcode.NXDOMAIN)
                return
            alias = self.records.get((name, "CNAME"))
            if alias is None:
                break
            response.answer.append(dns.rrset.from_text(f"{name}.", alias[0], "IN", "CNAME", *alias[1]))
            name = alias[1][0].rstrip(".")
        ttl, values = self.records.get((name, rdtype), (0, []))
        if values:
            response.answer.append(dns.rrset.from_text_list(f"{name}.", ttl, "IN", rdtype, values))
        for extra, extra_type in self.additional.get(name, ()):
            ttl, values = self.records[(extra, extra_type)]
            response.additional.append(dns.rrset.from_text_list(f"{extra}.", ttl, "IN", extra_type, values))

    async def _tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            wire = await reader.readexactly(length)
            reply = None if self.without_tcp else self.answer(wire, "tcp")
            if reply is not None:
                writer.write(struct.pack("!H", len(reply)) + reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        reply = self._server.answer(data, "udp")
        if reply is not None:
            self._transport.sendto(reply, addr)


@asynccontextmanager
async def dns_server() -> AsyncIterator[DnsServer]:
    server = DnsServer()
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def resolv_conf(folder: Path, *lines: str, servers: Iterable[str] = ("127.0.0.1",)) -> Path:
    path = folder / "resolv.conf"
    path.write_text("".join(f"{line}\n" for line in (*(f"nameserver {server}" for server in servers), *lines)))
    return path
