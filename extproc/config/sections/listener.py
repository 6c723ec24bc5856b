"""Where Envoy takes requests."""

from typing import Annotated

from pydantic import Field

from extproc.config import fields
from extproc.config.fields import Bytes, Section


class ListenerConfig(Section):
    """Where Envoy takes requests."""

    host: fields.IP = Field(default="0.0.0.0", description="IP address.")  # noqa: S104 - a gateway is there to be reached
    port: fields.Port = Field(default=8080, description="Port; 0: a free one.")
    max_body_bytes: Annotated[int, Bytes(1 << 10, 1 << 30)] = Field(
        default=16 << 20, description="Largest request body: bytes, or a size such as 16Mi. What is larger gets a 413."
    )
