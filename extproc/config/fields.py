"""The types of the configuration's values: how each is read, bounded and shown."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    Strict,
    StringConstraints,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, core_schema

from extproc.config import units
from scheduler.pool.dialects import custom

#: Seconds.
HOUR, DAY = 3600.0, 86400.0


class Section(BaseModel):
    """Base of every part of the configuration: camelCase keys; nothing unknown, converted or changeable."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        alias_generator=to_camel,
        allow_inf_nan=False,
    )

    @model_validator(mode="before")
    @classmethod
    def _empty(cls, data: object) -> object:
        """A key with nothing below it, as when all is commented out, is an empty section."""
        return {} if data is None else data


@dataclass(frozen=True, slots=True)
class Seconds:
    """A duration (`200ms`, `5s`, a bare number of seconds), as seconds. Bounds are inclusive."""

    minimum: float
    maximum: float

    def read(self, value: object) -> float:
        seconds = units.duration(value)
        if not self.minimum <= seconds <= self.maximum:
            low, high = units.format_duration(self.minimum), units.format_duration(self.maximum)
            raise ValueError(f"must be from {low} to {high}, not {units.format_duration(seconds)}")
        return seconds

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _plain(self.read, units.format_duration)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        number = {"type": "number", "minimum": self.minimum, "maximum": self.maximum}
        return {"anyOf": [{"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"}, number]}


@dataclass(frozen=True, slots=True)
class Bytes:
    """A size (`16Mi`, a bare number of bytes), as bytes. Bounds are inclusive."""

    minimum: int
    maximum: int

    def read(self, value: object) -> int:
        count = units.size(value)
        if not self.minimum <= count <= self.maximum:
            low, high = units.format_size(self.minimum), units.format_size(self.maximum)
            raise ValueError(f"must be from {low} to {high} bytes, not {units.describe(value)}")
        return count

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _plain(self.read, units.format_size)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        number = {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}
        return {"anyOf": [{"type": "string", "pattern": "^[0-9]+(Ki|Mi|Gi)?$"}, number]}


def _plain(read: Callable[[object], Any], show: Callable[[Any], Any]) -> CoreSchema:
    serialization = core_schema.plain_serializer_function_ser_schema(show)
    return core_schema.no_info_plain_validator_function(read, serialization=serialization)


def not_null(value: object) -> object:
    """For lists whose absence means something else than their emptiness."""
    if value is None:
        raise ValueError('is empty: write [] for "none", or leave the key out for the defaults')
    return value


def empty_mapping(value: object) -> object:
    return {} if value is None else value


def empty_list(value: object) -> object:
    return () if value is None or value == {} else value


def _scalar(value: object) -> object:
    if value is None or isinstance(value, list | dict):
        raise ValueError(f"must be a string, a number or a boolean, not {units.describe(value)}")
    return value


def _url_path(text: str) -> str:
    if not re.fullmatch(r"/[!-~]*", text):
        raise ValueError(f"must be a path such as /metrics, not {units.describe(text)}")
    return text


def _metric_name(text: str) -> str:
    try:
        custom({"waiting": (text,)})
    except ValueError:
        example = 'name{label="value"}'
        reason = f"must be the name of a metric, perhaps with labels as in {example}, not {units.describe(text)}"
        raise ValueError(reason) from None
    return text


def _plain_number(value: float) -> float | int:
    return int(value) if value.is_integer() else value


#: A list of the file, kept as a tuple.
AsTuple = Strict(strict=False)

Text = Annotated[str, StringConstraints(min_length=1)]
Texts = Annotated[tuple[Text, ...], AsTuple]
Arguments = Annotated[dict[str, Any], BeforeValidator(empty_mapping)]
Scalar = Annotated[Any, AfterValidator(_scalar)]
#: Finite; the upper bound keeps sums of weighted scores far from a float's end.
Weight = Annotated[float, Field(ge=0, le=1e6), PlainSerializer(_plain_number)]
PodPort = Annotated[int, Field(ge=1, le=65535)]
#: Of our own listeners; 0: a free one.
Port = Annotated[int, Field(ge=0, le=65535)]
IP = Annotated[str, AfterValidator(units.host)]
PodAddress = Annotated[str, AfterValidator(units.pod_address)]
DnsName = Annotated[str, AfterValidator(units.dns_name)]
TransportAddress = Annotated[str, AfterValidator(units.transport_address)]
HttpUrl = Annotated[str, AfterValidator(units.http_url)]
SocketPath = Annotated[str, AfterValidator(units.socket_path)]
FilePath = Annotated[str, AfterValidator(units.absolute_path)]
UrlPath = Annotated[str, AfterValidator(_url_path)]
MetricName = Annotated[str, AfterValidator(_metric_name)]
MetricNames = Annotated[tuple[MetricName, ...], AsTuple]
