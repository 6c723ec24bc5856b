"""Errors and doubts between the keys of `sharing`."""

from collections.abc import Iterator

from extproc.config.decode import Decoded
from extproc.config.problems import Path, Problem
from extproc.config.sections.sharing import RedisConfig, SharingConfig
from extproc.config.units import is_loopback

_REDIS: Path = ("sharing", "redis")


def problems(sharing: SharingConfig, decoded: Decoded) -> Iterator[Problem]:
    """Paths are those of the configuration, as in `checks`."""
    redis = sharing.redis
    if not decoded.sound(_REDIS):
        return
    if redis.url is not None and redis.sentinel is not None:
        reason = "cannot be set beside url: the Sentinels say where the server is"
        yield Problem(reason, (*_REDIS, "sentinel"), at_key=True)
    if redis.sentinel is not None:
        for key, value in (("service", redis.sentinel.service), ("addresses", redis.sentinel.addresses)):
            if not value:
                yield Problem(f"has no {key}", (*_REDIS, "sentinel"), at_key=True)
    if redis.cluster:
        if redis.url is None or redis.url.startswith("unix:"):
            reason = "needs a url of redis:// or rediss://: the other nodes are found from there"
            yield Problem(reason, (*_REDIS, "cluster"), at_key=True)
        if redis.database:
            yield Problem("a cluster has only the database 0", (*_REDIS, "database"))
    yield from _tls(redis)
    if redis.username_file is not None and redis.password_file is None:
        yield Problem("has no passwordFile beside it", (*_REDIS, "usernameFile"), at_key=True)
    if sharing.secret_file is not None and not redis.on:
        reason = "without redis.url or redis.sentinel nothing is shared"
        yield Problem(reason, ("sharing", "secretFile"), at_key=True)


def _tls(redis: RedisConfig) -> Iterator[Problem]:
    given = {"caFile": redis.ca_file, "certFile": redis.cert_file, "keyFile": redis.key_file}
    found = [key for key, value in given.items() if value is not None]
    if found and redis.on and not redis.tls:
        reason = "is for TLS, which the server is not reached by"
        yield Problem(reason, (*_REDIS, found[0]), hint="rediss:// in url, or tls: true in sentinel", at_key=True)
    if (redis.cert_file is None) != (redis.key_file is None):
        key, missing = ("certFile", "keyFile") if redis.key_file is None else ("keyFile", "certFile")
        yield Problem(f"has no {missing} beside it", (*_REDIS, key), at_key=True)


def warnings(sharing: SharingConfig) -> Iterator[Problem]:
    """Warnings: allowed settings that the operator should know of."""
    if not sharing.on:
        return
    if sharing.secret_file is None:
        reason = "is not given: one is made in Redis, and whoever reads Redis can test guesses of prompts with it"
        yield Problem(reason, ("sharing", "secretFile"))
    url = sharing.redis.url or ""
    host = url.removeprefix("redis://").rpartition(":")[0].strip("[]")
    if url.startswith("redis://") and not is_loopback(host) and sharing.redis.password_file is not None:
        reason = "no TLS: the password crosses the network in the clear (use rediss://)"
        yield Problem(reason, (*_REDIS, "url"))
