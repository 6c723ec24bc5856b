"""The messages that gateways exchange, and their transport."""

from typing import Annotated

from pydantic import AfterValidator, Field

from extproc.config import fields, units
from extproc.config.fields import AsTuple, Seconds, Section, Text

#: Seconds for which Redis keeps events: the prompts that a newcomer's prefix index is warmed with, and how long
#: a gateway may be cut off and lose nothing.
HISTORY = 60.0

_RedisUrl = Annotated[str, AfterValidator(units.redis_url)]
_HostPort = Annotated[str, AfterValidator(units.host_port)]
_Name = Annotated[Text, Field(pattern=r"^[A-Za-z0-9._-]+$", max_length=64)]


class SentinelConfig(Section):
    """Sentinels that know which server is the primary, in place of `url`."""

    service: Text | None = Field(default=None, description="Name of the primary, as the Sentinels have it.")
    addresses: Annotated[tuple[_HostPort, ...], AsTuple] = Field(default=(), description="host:port of each Sentinel.")
    tls: bool = Field(default=False, description="Whether Sentinels and servers are reached by TLS.")
    password_file: fields.FilePath | None = Field(
        default=None, description="File of the Sentinels' own password. Left out: they have none."
    )


class RedisConfig(Section):
    """The Redis or Valkey (6.2 or newer) that carries it. On when `url` or `sentinel` is given."""

    url: _RedisUrl | None = Field(
        default=None, description="redis://host:port, rediss://host:port (TLS) or unix:///absolute/path."
    )
    cluster: bool = Field(
        default=False, description="Whether `url` is a node of a cluster. All keys of a group are in one slot of it."
    )
    sentinel: SentinelConfig | None = Field(
        default=None, description="Sentinels that know which server is the primary, in place of `url`."
    )
    database: int = Field(default=0, ge=0, le=65535, description="Number of the database.")
    prefix: _Name = Field(default="infer-gateway", description="Beginning of the names of all keys.")
    username_file: fields.FilePath | None = Field(
        default=None, description="File of the user's name. Left out: the default user. Read at each connection."
    )
    password_file: fields.FilePath | None = Field(
        default=None, description="File of the password. Left out: none is sent. Read at each connection."
    )
    ca_file: fields.FilePath | None = Field(
        default=None, description="PEM file of the authorities trusted for TLS, in place of the system's."
    )
    cert_file: fields.FilePath | None = Field(default=None, description="PEM file of a client's certificate, for TLS.")
    key_file: fields.FilePath | None = Field(default=None, description="PEM file of that certificate's key.")
    history: Annotated[float, Seconds(10, 600)] = Field(
        default=HISTORY,
        description="How long Redis keeps what was told. A gateway that starts reads so much, and one that was cut off"
        " for less loses nothing.",
    )

    @property
    def on(self) -> bool:
        """Whether there is one."""
        return self.url is not None or self.sentinel is not None

    @property
    def tls(self) -> bool:
        """Whether it is reached by TLS."""
        return (self.url or "").startswith("rediss:") or (self.sentinel is not None and self.sentinel.tls)


class SharingConfig(Section):
    """What gateways of one group tell each other, so that they decide as one. On when `redis` has a server."""

    group: _Name = Field(
        default="default",
        description="Name of the group: gateways that send to the same pods, with the same `scheduler` and pools.",
    )
    secret_file: fields.FilePath | None = Field(
        default=None,
        description="File of a secret of the group, at least 32 random bytes: keys the hashes of prompts. The same for"
        " all; read again when it changes. Left out: one is made in Redis, where whoever reads Redis finds it.",
    )
    redis: RedisConfig = Field(default=RedisConfig(), description="The Redis or Valkey that carries it.")

    @property
    def on(self) -> bool:
        """Whether gateways share."""
        return self.redis.on
