"""How Envoy reaches the sidecar's processes."""

from typing import Annotated, Literal

from pydantic import Field

from extproc.config import fields
from extproc.config.fields import HOUR, Seconds, Section
from extproc.protocol.events import BodyMode, ProtocolConfig
from scheduler.config import MAX_PODS

#: Processes that decide. What one picks all others write down, so that many more would do nothing else.
MAX_WORKERS = 8


class TlsConfig(Section):
    """What the ext_proc server proves, and what it asks of gateways."""

    self_signed: bool = Field(
        default=False,
        description="Whether a certificate is made at the start. Gateways cannot verify it: they have to skip that.",
    )
    cert_file: fields.FilePath | None = Field(
        default=None,
        description="PEM file of the certificate and what leads to its root. Read again when it changes.",
    )
    key_file: fields.FilePath | None = Field(
        default=None, description="PEM file of the certificate's key, without passphrase. Read again when it changes."
    )
    client_ca_file: fields.FilePath | None = Field(
        default=None,
        description="PEM file of authorities: only gateways with a certificate of one of these are served."
        " Left out: every gateway.",
    )


class TransportConfig(Section):
    """How Envoy reaches the sidecar."""

    address: fields.TransportAddress = Field(
        default="unix:///var/run/infer-gateway/extproc.sock", description="unix:///absolute/path, or host:port."
    )
    mode: Literal["auto", "sidecar", "grpcio"] = Field(
        default="auto",
        description="Server in use. sidecar: the gateway's own, for any data plane on any address. grpcio: grpc.aio,"
        " which takes several times its CPU. auto: sidecar.",
    )
    data_plane: Literal["auto", "own", "foreign"] = Field(
        default="auto",
        description="Who asks. own: the Envoy of this gateway's own bootstrap. foreign: somebody else's gateway, whose"
        " Endpoint Picker this is. auto: own on a Unix socket, else foreign; with mode grpcio, foreign.",
    )
    max_endpoints: Annotated[int, Field(ge=1, le=MAX_PODS)] | None = Field(
        default=None,
        description="Most addresses in an answer: the pick, and those to retry at, best first. Left out: 1 for a"
        " foreign data plane, of which some fail requests with more; 1 + envoy.retries for its own Envoy.",
    )
    body_mode: Literal["BUFFERED", "BUFFERED_PARTIAL", "STREAMED", "FULL_DUPLEX_STREAMED", "NONE"] = Field(
        default="BUFFERED",
        description="The request_body_mode that is assumed of an Envoy which does not tell its own (before 1.33)."
        " Others tell, and this is not looked at.",
    )
    tls: TlsConfig | None = Field(default=None, description="TLS, for an address of host:port. Left out: plain text.")
    drain_timeout: Annotated[float, Seconds(0, HOUR)] = Field(
        default=30.0, description="How long requests in flight may go on after SIGTERM."
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=MAX_WORKERS,
        description="Processes that decide, each on a socket of its own beside `address`. They share what they know."
        " More than one is for more decisions than one core makes.",
    )
    standby: bool = Field(
        default=False,
        description="Whether one process more stands by: Envoy turns to it at once when the others are gone.",
    )
    max_concurrent_streams: int = Field(
        default=100_000, ge=1, le=2**31 - 1, description="Most ext_proc streams (requests) on one connection."
    )

    @property
    def alone(self) -> bool:
        """Whether one process is all there is."""
        return self.workers == 1 and not self.standby

    @property
    def own_envoy(self) -> bool:
        """Whether the Envoy of the gateway's own bootstrap asks."""
        if self.data_plane == "auto":
            return self.mode != "grpcio" and self.address.startswith("unix:")
        return self.data_plane == "own"

    @property
    def assumed(self) -> ProtocolConfig:
        """The assumed setup of an Envoy that does not report its own."""
        mode = BodyMode[self.body_mode]
        # Both directions, or none: full duplex is all of a gateway's form.
        return ProtocolConfig(mode, mode if mode is BodyMode.FULL_DUPLEX_STREAMED else BodyMode.NONE)

    @property
    def lean(self) -> bool:
        """Whether the gateway's own server is used."""
        return self.mode != "grpcio"
