"""What is wrong between the keys of `sharing`, and within them: every mistake at its place."""

import pytest

from extproc.config import ConfigError, GatewayConfig, loads


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loads(f"sharing: {text}", "f")
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("text", "path", "reason"),
    [
        ("{redis: {url: 'http://redis:6379'}}", "redis.url", "must be redis://host:port"),
        ("{redis: {url: 'redis://redis'}}", "redis.url", 'has no port (did you mean "redis://redis:6379"?)'),
        ("{redis: {url: 'redis://:secret@redis:6379'}}", "redis.url", "must not hold a user or password"),
        ("{redis: {url: 'redis://redis:6379/3'}}", "redis.url", "`database`"),
        ("{redis: {url: 'redis://redis:6379?db=3'}}", "redis.url", "`database`"),
        ("{redis: {url: 'redis://'}}", "redis.url", "must be host:port"),
        ("{redis: {url: 'unix:redis.sock'}}", "redis.url", "must be unix:///absolute/path"),
        ("{redis: {url: 'redis://redis:99999'}}", "redis.url", "the port must be"),
        ("{redis: {url: 'redis://redis:0'}}", "redis.url", "must be host:port"),
        ("{group: 'a b', redis: {url: 'redis://redis:6379'}}", "group", ""),
        ("{redis: {url: 'redis://redis:6379', cluster: true, database: 2}}", "redis.database", "only the database 0"),
        ("{redis: {url: 'unix:///redis.sock', cluster: true}}", "redis.cluster", "needs a url of redis://"),
        ("{redis: {url: 'redis://redis:6379', caFile: /ca.pem}}", "redis.caFile", "is for TLS"),
        ("{redis: {url: 'rediss://redis:6379', certFile: /c.pem}}", "redis.certFile", "has no keyFile"),
        ("{redis: {url: 'rediss://redis:6379', keyFile: /c.pem}}", "redis.keyFile", "has no certFile"),
        ("{redis: {url: 'redis://redis:6379', usernameFile: /u}}", "redis.usernameFile", "has no passwordFile"),
        ("{secretFile: /secret}", "secretFile", "nothing is shared"),
        ("{redis: {sentinel: {service: primary}}}", "redis.sentinel", "has no addresses"),
        ("{redis: {sentinel: {addresses: ['s:26379']}}}", "redis.sentinel", "has no service"),
        ("{redis: {sentinel: {service: p, addresses: [s]}}}", "redis.sentinel.addresses[0]", "must be host:port"),
        (
            "{redis: {url: 'redis://r:1', sentinel: {service: p, addresses: ['s:1']}}}",
            "redis.sentinel",
            "cannot be set beside url",
        ),
        ("{redis: {url: 'redis://redis:6379', history: 5s}}", "redis.history", "must be from 10s to"),
    ],
)
def test_a_mistake_has_its_place_and_its_reason(text: str, path: str, reason: str) -> None:
    [line] = [line for line in problems(text) if "sharing" in line]
    assert f"sharing.{path}: " in line
    assert reason in line


def test_every_mistake_at_once() -> None:
    found = problems("{redis: {url: 'redis://r:1', database: -1, history: 1s, prefix: '{'}}")
    assert len([line for line in found if "sharing.redis" in line]) == 3


@pytest.mark.parametrize(
    "text",
    [
        "{redis: {url: 'redis://redis:6379/'}}",
        "{redis: {url: 'redis://[::1]:6379'}}",
        "{redis: {url: 'unix:///run/redis.sock'}}",
        "{redis: {url: 'rediss://redis:6379', cluster: true, caFile: /ca.pem, certFile: /c.pem, keyFile: /k.pem}}",
        "{redis: {sentinel: {service: primary, addresses: ['a:26379', 'b:26379'], tls: true}, caFile: /ca.pem}}",
        "{}",
    ],
)
def test_what_is_right(text: str) -> None:
    assert loads(f"sharing: {text}", "f").config.sharing.on == (text != "{}")
    assert not GatewayConfig().sharing.on


def test_what_should_be_known() -> None:
    def warnings(text: str) -> str:
        return "".join(line for line in loads(f"sharing: {text}", "f").warnings if "sharing" in line)

    assert "secretFile: is not given" in warnings("{redis: {url: 'redis://redis:6379'}}")
    assert not warnings("{secretFile: /secret, redis: {url: 'redis://redis:6379'}}")
    assert "no TLS" in warnings("{secretFile: /secret, redis: {url: 'redis://redis:6379', passwordFile: /p}}")
    for url in ("redis://127.0.0.1:6379", "rediss://redis:6379", "unix:///run/redis.sock"):
        assert not warnings(f"{{secretFile: /secret, redis: {{url: '{url}', passwordFile: /p}}}}")
