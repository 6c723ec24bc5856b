from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from extproc.config.fields import Bytes, MetricName, Scalar, Seconds, Text, Texts, UrlPath, Weight


def test_bounds_of_durations_are_told_as_durations() -> None:
    bounds = Seconds(0.1, 3600)
    assert bounds.read("100ms") == pytest.approx(0.1)
    assert bounds.read(3600) == 3600
    for value, shown in ((0, "0s"), ("2h", "2h")):
        with pytest.raises(ValueError, match=f"must be from 100ms to 1h, not {shown}"):
            bounds.read(value)


def test_bounds_of_sizes_are_told_as_sizes() -> None:
    bounds = Bytes(1024, 1 << 30)
    assert bounds.read("1Ki") == 1024
    for value in (1023, "2Gi", -1):
        with pytest.raises(ValueError, match="must be from 1Ki to 1Gi bytes, not"):
            bounds.read(value)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (Text, "x", ""),
        (Texts, ["a", "b"], ["a", ""]),
        (Texts, [], "ab"),
        (Texts, ("a",), {"a": 1}),
        (Scalar, False, None),
        (Weight, 0, -0.1),
        (Weight, 2.5, float("nan")),
        (Weight, 1e6, float("inf")),
        (UrlPath, "/metrics?x=1", "metrics"),
        (UrlPath, "/", "/a b"),
        (UrlPath, "/m", "/m\n"),
        (MetricName, "vllm:x", "vllm x"),
        (MetricName, 'x{a="b"}', "x{a=b}"),
    ],
)
def test_each_type(kind: Any, good: object, bad: object) -> None:
    adapter: TypeAdapter[object] = TypeAdapter(kind)
    adapter.validate_python(good, strict=None)
    with pytest.raises(ValidationError):
        adapter.validate_python(bad)


def test_schemas_take_text_and_numbers() -> None:
    for bounds in (Seconds(1, 2), Bytes(1, 2)):
        schema = TypeAdapter[Any](_annotated(bounds)).json_schema()
        assert [option["type"] for option in schema["anyOf"]] == [
            "string",
            "number" if isinstance(bounds, Seconds) else "integer",
        ]


def _annotated(bounds: object) -> Any:
    from typing import Annotated

    return Annotated[float, bounds]
