"""Gateways that share a real Redis or Valkey, without Envoy."""

import asyncio
import logging
import re
import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio
import trustme
from redis.asyncio import Redis
from support.eventually import eventually
from support.sharing import PODS, TOPIC, Member, member, sharing

from extproc.demo.redis_server import RedisServer
from extproc.errors import GatewayError
from scheduler.cycle import schedule
from scheduler.types import Decision, Prompt, Request

TEXT = "A conversation about routing. " * 20
OPERATIONS = Path(__file__).parents[5] / "docs" / "operations.md"


@pytest_asyncio.fixture
async def redis() -> AsyncIterator[RedisServer]:
    async with RedisServer() as server:
        yield server


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(b"a secret of thirty-two bytes, or more")
    return path


def decide(one: Member, text: str = TEXT) -> Decision:
    request = Request(model="m", prompt=Prompt((text,)))
    return schedule(one.profile, request, one.store.snapshot(1.0), now=1.0, rng=Random(1))


def details(caplog: pytest.LogCaptureFixture) -> str:
    return " ".join(str(record.__dict__.get("detail", "")) for record in caplog.records)


async def ready(members: Sequence[Member]) -> None:
    await eventually(lambda: all(not one.gateways.not_ready() for one in members))
    await eventually(lambda: all(one.number("members") == len(members) - 1 for one in members))


async def check(a: Member, b: Member) -> None:
    """They know of each other."""
    await ready([a, b])
    tickets = [one.store.acquire(pod, 5, 0.0) for one, pod in zip((a, b), PODS, strict=False)]
    await eventually(lambda: a.in_flight() == b.in_flight() == [1, 1, 0])
    for ticket in tickets:
        ticket.release(0.0)
    await eventually(lambda: a.in_flight() == b.in_flight() == [0, 0, 0])


async def test_two_know_of_each_other(redis: RedisServer, secret: Path) -> None:
    config = sharing(redis.url, secret=secret)
    async with member(config) as a, member(config) as b:
        await check(a, b)
        assert a.seeds == b.seeds
        first = decide(a)
        await eventually(lambda: decide(b).prefix_match == 1)
        assert decide(b).pod == first.pod
        assert a.number("unknown") == b.number("unknown") == a.number("lost") == 0
    # It took leave: nobody waits for its silence.


async def test_one_that_takes_leave_is_gone_at_once(redis: RedisServer, secret: Path) -> None:
    config = sharing(redis.url, secret=secret)
    async with member(config) as a:
        async with member(config) as b:
            await ready([a, b])
            b.store.acquire(PODS[0], 5, 0.0)
            await eventually(lambda: a.in_flight() == [1, 0, 0])
        await eventually(lambda: a.in_flight() == [0, 0, 0])
        assert a.number("members") == 0


async def test_a_newcomer_knows_what_was_told_before_it_came(redis: RedisServer, secret: Path) -> None:
    config = sharing(redis.url, secret=secret)
    async with member(config) as a:
        await ready([a])
        decide(a)
        a.store.acquire(PODS[1], 7, 0.0)
        async with member(config) as b:
            await eventually(lambda: not b.gateways.not_ready())
            assert b.in_flight() == [0, 1, 0]
            assert decide(b).prefix_match == 1


async def test_a_newcomer_learns_prefixes_that_were_told_longer_ago_than_the_stream_has(
    redis: RedisServer, secret: Path
) -> None:
    config = sharing(redis.url, secret=secret)
    async with member(config) as a, member(config) as b, Redis(unix_socket_path=str(redis.socket)) as client:
        await ready([a, b])
        decide(a)
        await eventually(lambda: decide(b).prefix_match == 1)
        await client.delete("infer-gateway:{default}:events")
        # From now on it is told by name.
        decide(a)
        sent = [one.number("sent_messages") for one in (a, b)]
        await eventually(
            lambda: all(one.number("sent_messages") > before for one, before in zip((a, b), sent, strict=True))
        )
        async with member(config) as c:
            await eventually(lambda: not c.gateways.not_ready())
            assert decide(c).prefix_match == 1


async def test_the_processes_of_one_gateway_do_not_hear_each_other_here(redis: RedisServer, secret: Path) -> None:
    config = sharing(redis.url, secret=secret)
    async with member(config, name=b"thesame!") as a, member(config, name=b"thesame!", run=1) as b:
        await eventually(lambda: not a.gateways.not_ready() and not b.gateways.not_ready())
        a.store.acquire(PODS[0], 5, 0.0)
        async with member(config) as other:
            await eventually(lambda: other.number("members") >= 1 and b.number("members") == 1)
        assert b.in_flight() == [0, 0, 0]


async def test_a_secret_that_is_made_in_redis_is_one_for_all(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    config = sharing(redis.url)
    async with member(config) as a, member(config) as b:
        await check(a, b)
        assert a.seeds == b.seeds
        assert "sharing: no secretFile" in caplog.text
        decide(a)
        await eventually(lambda: decide(b).prefix_match == 1)
    async with Redis(unix_socket_path=str(redis.socket)) as client:
        for key in ("secret", "events"):
            assert 0 < await client.ttl(f"infer-gateway:{{default}}:{key}") <= 86_400


async def test_a_changed_secret_empties_what_was_learnt_and_splits_nobody_without_a_word(
    redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("extproc.sharing.gateways.SECRET_INTERVAL", 0.01)
    paths = [tmp_path / name for name in "ab"]
    for path in paths:
        path.write_bytes(b"the first secret")
    async with (
        member(sharing(redis.url, secret=paths[0])) as a,
        member(sharing(redis.url, secret=paths[1])) as b,
    ):
        await ready([a, b])
        decide(a)
        await eventually(lambda: decide(b).prefix_match == 1)
        paths[0].write_bytes(b"the second secret")
        await eventually(lambda: a.number("reseeded") == 1)
        assert decide(a).prefix_match == 0
        await eventually(lambda: b.number("strangers") == 1 and b.number("foreign") > 0)
        # All else is shared.
        a.store.acquire(PODS[0], 5, 0.0)
        await eventually(lambda: b.in_flight() == [1, 0, 0])
        paths[1].write_bytes(b"the second secret")
        await eventually(lambda: b.number("reseeded") == 1 and b.number("strangers") == 0)
        decide(a, TEXT + "again")
        await eventually(lambda: decide(b, TEXT + "again").prefix_match == 1)
    assert caplog.text.count("the secret is another one") == 2


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


async def test_an_empty_secret_is_none(redis: RedisServer, secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extproc.sharing.gateways.SECRET_INTERVAL", 0.001)
    async with member(sharing(redis.url, secret=secret)) as a:
        await ready([a])
        written(secret, b"")
        await asyncio.sleep(0)
        written(secret, b"another")
        await eventually(lambda: a.number("reseeded") == 1)
    with pytest.raises(GatewayError, match="is empty"):
        async with member(sharing(redis.url, secret=written(secret, b" \n"))):
            pass


async def test_the_rights_that_the_documents_list_are_enough(redis: RedisServer, secret: Path, tmp_path: Path) -> None:
    [rule] = re.findall(r"ACL SETUSER (infer-gateway .*)", OPERATIONS.read_text(encoding="utf-8"))
    async with Redis(unix_socket_path=str(redis.socket)) as client:
        await client.execute_command("ACL", "SETUSER", *rule.replace("PASSWORD", "the-password").split())
        await client.execute_command("CONFIG", "SET", "requirepass", "another")
        user, password = tmp_path / "user", tmp_path / "password"
        user.write_text("infer-gateway\n")
        password.write_text("the-password\n")
        config = sharing(redis.url, secret=secret, usernameFile=str(user), passwordFile=str(password))
        async with member(config) as a, member(config) as b:
            await check(a, b)
        config = sharing(redis.url, usernameFile=str(user), passwordFile=str(password))
        async with member(config) as a, member(config) as b:
            await check(a, b)
        denied = await client.execute_command("ACL", "LOG")
        # What the library asks for on its own account may be refused.
        assert not [one for one in denied if b"xadd" in str(one).encode() or b"xread" in str(one).encode()]


async def test_a_wrong_password_is_told_once_and_heals_by_itself(
    redis: RedisServer, secret: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    password = tmp_path / "password"
    password.write_text("wrong")
    async with Redis(unix_socket_path=str(redis.socket)) as client:
        await client.execute_command("CONFIG", "SET", "requirepass", "right")
    caplog.set_level(logging.INFO)
    async with member(sharing(redis.url, secret=secret, passwordFile=str(password))) as a:
        # It does not wait for ever.
        await eventually(lambda: not a.gateways.not_ready())
        await eventually(lambda: "sharing does not work" in caplog.text)
        assert a.number("up") == 0
        assert "invalid username-password pair" in details(caplog)
        password.write_text("right")
        await eventually(lambda: "sharing works" in caplog.text)
        assert a.number("up") == 1
    assert [record.message for record in caplog.records] == ["sharing does not work", "sharing works"]


async def test_a_full_server_is_told_of_and_nothing_stops(
    redis: RedisServer, secret: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = sharing(redis.url, secret=secret)
    async with Redis(unix_socket_path=str(redis.socket)) as client, member(config) as a, member(config) as b:
        await ready([a, b])
        await client.config_set("maxmemory", 1)
        await eventually(lambda: "sharing does not work" in caplog.text)
        assert "OutOfMemoryError" in details(caplog)
        a.store.acquire(PODS[0], 5, 0.0)
        await client.config_set("maxmemory", 0)
        await eventually(lambda: b.in_flight() == [1, 0, 0])
        await ready([a, b])


async def test_the_stream_is_bounded_and_ends_by_itself(
    redis: RedisServer, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("extproc.sharing.redis.carrier.KEEP_INTERVAL", 0.0)
    monkeypatch.setattr("extproc.sharing.redis.carrier.MAX_ENTRIES", 100)
    async with Redis(unix_socket_path=str(redis.socket)) as client, member(sharing(redis.url, secret=secret)) as a:
        await ready([a])
        for _ in range(400):
            a.store.acquire(PODS[0], 5, 0.0).release(0.0)
            a.gateways._journal._on_event()
            await asyncio.sleep(0.002)
        # Trimmed by whole nodes of a hundred.
        await eventually(lambda: a.number("sent_messages") > 20)
        assert await client.xlen("infer-gateway:{default}:events") <= 300
        assert await client.ttl("infer-gateway:{default}:events") > 0


async def test_groups_do_not_hear_each_other(redis: RedisServer, secret: Path) -> None:
    first = sharing(redis.url, secret=secret)
    second = first.model_copy(update={"group": "another"})
    async with member(first) as a, member(second) as b, member(first) as c:
        await ready([a, c])
        assert b.number("members") == 0


async def test_what_cannot_be_told_is_made_up_for(redis: RedisServer, secret: Path) -> None:
    config = sharing(redis.url, secret=secret)
    async with member(config) as a, member(config) as b:
        await ready([a, b])
        a.store.acquire(PODS[0], 5, 0.0)
        a.gateways.teller(TOPIC)(("o", PODS[0].address, 0.1, 10**300, None, 0.0))
        a.store.acquire(PODS[1], 5, 0.0)
        await eventually(lambda: b.in_flight() == [1, 1, 0])


# Ways to the server


async def test_by_tcp(secret: Path) -> None:
    async with RedisServer(port=await free_port()) as server:
        config = sharing(f"redis://127.0.0.1:{server.port}", secret=secret, database=3)
        async with member(config) as a, member(config) as b:
            await check(a, b)


async def free_port() -> int:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    return port


async def test_by_tls_with_a_clients_certificate(redis: RedisServer, secret: Path, tmp_path: Path) -> None:
    """The server may be built without TLS: what ends it is Python's own."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    served, ours = authority.issue_cert("127.0.0.1"), authority.issue_cert("gateway.test")
    ours.private_key_pem.write_to_path(tmp_path / "key.pem")
    ours.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to = await asyncio.open_unix_connection(redis.socket)
        await asyncio.gather(carry(reader, to), carry(there, writer), return_exceptions=True)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=context)
    url = f"rediss://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    files = {"certFile": str(tmp_path / "cert.pem"), "keyFile": str(tmp_path / "key.pem")}
    try:
        config = sharing(url, secret=secret, caFile=str(tmp_path / "ca.pem"), **files)
        async with member(config) as a, member(config) as b:
            await check(a, b)
        # Whom the authority does not know is not believed.
        async with member(sharing(url, secret=secret, **files)) as a:
            await eventually(lambda: not a.gateways.not_ready())
            assert a.number("up") == 0
    finally:
        server.close()


async def test_a_cluster(secret: Path) -> None:
    port = await free_port()
    cluster = RedisServer(port=port, arguments=("--cluster-enabled", "yes", "--cluster-port", str(await free_port())))
    async with cluster as server:
        async with Redis(unix_socket_path=str(server.socket)) as client:
            await client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)

            async def up() -> bool:
                return b"cluster_state:ok" in await client.execute_command("CLUSTER", "INFO")

            await eventually(up)
        config = sharing(f"redis://127.0.0.1:{port}", secret=secret, cluster=True)
        async with member(config) as a, member(config) as b:
            await check(a, b)


async def test_sentinels_say_where_the_server_is(secret: Path, tmp_path: Path) -> None:
    port, watching = await free_port(), await free_port()
    own = tmp_path / "sentinel.conf"
    own.write_text(f"sentinel monitor primary 127.0.0.1 {port} 1\n")
    async with RedisServer(port=port), RedisServer(port=watching, configuration=own, arguments=("--sentinel",)):
        config = sharing(secret=secret, sentinel={"service": "primary", "addresses": [f"127.0.0.1:{watching}"]})
        async with member(config) as a, member(config) as b:
            await check(a, b)
