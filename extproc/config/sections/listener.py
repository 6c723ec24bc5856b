"""Where Envoy takes requests, and which of them go no further."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from extproc.config import fields
from extproc.config.fields import DAY, AsTuple, Bytes, Seconds, Section, Texts
from extproc.config.units import describe

_ORIGIN = re.compile(r"https?://(?:\*\.)?[^/*?#\s]+|\*|null")
_METHOD = re.compile(r"[A-Z]+")
_PATH = re.compile(r"/(?:[!-~]*[!-)+-~])?(?:/\*)?|/\*")


def _origin(text: str) -> str:
    if not _ORIGIN.fullmatch(text):
        example = "https://chat.example.com, https://*.example.com or *"
        raise ValueError(f"must be an origin such as {example}, not {describe(text)}")
    return text.lower()


def _method(text: str) -> str:
    if not _METHOD.fullmatch(text):
        raise ValueError(f"must be a method such as POST, not {describe(text)}")
    return text


def _path(text: str) -> str:
    wrong = re.search(r"[?#%\\]|//|/\.\.?(?:/|$)", text) or "*" in text.removesuffix("/*")
    if wrong or not _PATH.fullmatch(text):
        example = "/v1/models, or /v1/* for all below"
        raise ValueError(f"must be a path such as {example}, without query or escapes, not {describe(text)}")
    return text


class CorsConfig(Section):
    """Which pages of browsers may ask. Their preflight requests are answered by Envoy, without a token."""

    origins: Annotated[tuple[Annotated[str, AfterValidator(_origin)], ...], AsTuple] = Field(
        description="Origins of those pages: https://chat.example.com, https://*.example.com for all below, or *.",
        # Checked elsewhere: where the only origin is wrong, the message is not that there is none.
        json_schema_extra={"minItems": 1},
    )
    methods: Annotated[tuple[Annotated[str, AfterValidator(_method)], ...], AsTuple] = Field(
        default=("GET", "POST", "DELETE", "OPTIONS"), description="Methods that they may use."
    )
    headers: Texts = Field(
        default=("authorization", "content-type", "x-api-key", "*"),
        description="Headers that they may send. *: all others, but browsers take that only without credentials.",
    )
    expose_headers: Texts = Field(
        default=("x-request-id", "retry-after"), description="Headers of answers that they may read."
    )
    credentials: bool = Field(
        default=False, description="Whether cookies and client certificates may be sent; not with the origin *."
    )
    max_age: Annotated[float, Seconds(0, DAY)] = Field(
        default=7200.0, description="How long browsers may remember a preflight's answer."
    )


class ListenerTlsConfig(Section):
    """TLS towards clients. Files that are replaced (renamed into their folder) are read again."""

    cert_file: fields.FilePath = Field(description="PEM file of the certificate and what leads to its root.")
    key_file: fields.FilePath = Field(description="PEM file of the certificate's key, without passphrase.")
    client_ca_file: fields.FilePath | None = Field(
        default=None,
        description="PEM file of authorities: only clients with a certificate of one of these are served."
        " Left out: every client.",
    )


#: Bytes of a body whose length is not known beforehand: a prompt of 250,000 tokens.
UNSIZED_BODY = 1 << 20


class ListenerConfig(Section):
    """Where Envoy takes requests."""

    host: fields.IP = Field(default="0.0.0.0", description="IP address.")  # noqa: S104 - a gateway is there to be reached
    port: fields.Port = Field(default=8080, description="Port; 0: a free one.")
    max_body_bytes: Annotated[int, Bytes(1 << 10, 1 << 30)] = Field(
        default=16 << 20,
        description="Largest request body, after it was decompressed: bytes, or a size such as 16Mi. What is larger"
        " gets a 413.",
    )
    max_unsized_body_bytes: Annotated[int, Bytes(1 << 10, 1 << 30)] | None = Field(
        default=None,
        description="Largest request body whose length is not told beforehand (no content-length): room is kept for so"
        " much of each. What is larger gets a 413. Left out: 1Mi, or maxBodyBytes where that is less.",
    )
    tls: ListenerTlsConfig | None = Field(default=None, description="TLS towards clients. Left out: plain text.")
    cors: CorsConfig | None = Field(
        default=None, description="Which pages of browsers may ask. Left out: none of another origin."
    )
    paths: Annotated[tuple[Annotated[str, AfterValidator(_path)], ...], AsTuple] | None = Field(
        default=None,
        json_schema_extra={"minItems": 1},
        description="The only paths that are served: /v1/models, or /v1/* for all below. /*: all. What is left gets a"
        " 404. Left out: all but those by which engines are administered, such as /metrics and /load_lora_adapter.",
    )
    models_api: Literal["gateway", "pods"] = Field(
        default="gateway",
        description="Who answers GET /v1/models. gateway: the names of routes, else what the pods list, as far as"
        " the token may use them. pods: one of them.",
    )
    headers_with_underscores: Literal["drop", "forward", "reject"] = Field(
        default="drop",
        description="What becomes of headers such as session_id. drop: plugins may read them, model servers do not get"
        " them. forward: they do. reject: the request gets a 400. Names of the gateway's own are removed in any"
        " spelling.",
    )

    @property
    def unsized_limit(self) -> int:
        """Bytes of a body without a length."""
        given = self.max_unsized_body_bytes
        return min(UNSIZED_BODY, self.max_body_bytes) if given is None else given
