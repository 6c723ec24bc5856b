import gzip
import json

import pytest

from extproc.errors import Refusal
from extproc.parsers import Api
from extproc.protocol.headers import METHOD, PATH, Headers
from extproc.request.reading import Reading, one_model, read, with_model

CHAT = "/v1/chat/completions"


def reading(body: bytes | None, path: str = CHAT, method: str = "POST", **more: str) -> Reading:
    headers = [(METHOD, method.encode()), (PATH, path.encode())]
    headers += [(name.replace("_", "-"), value.encode()) for name, value in more.items()]
    return read(Headers(headers), body, limit=1000)


def test_what_names_a_model() -> None:
    assert reading(b'{"model":"m"}').model == "m"
    assert reading(b"{}", "/openai/deployments/a/chat/completions").model == "a"
    assert reading(b"{}", f"{CHAT}?model=q").model == "q"
    assert reading(None, "/v1/realtime?model=q", "GET").model == "q"
    assert reading(b"model=f", "/x", content_type="application/x-www-form-urlencoded").model == "f"
    assert reading(b'{"model":"m"}', "/files", content_type="application/octet-stream").parsed is None
    assert reading(b'{"model":"m"}', method="GET").parsed is None
    assert reading(gzip.compress(b'{"model":"z"}'), content_encoding="gzip").model == "z"
    assert reading(gzip.compress(b""), content_encoding="gzip").body == b""


@pytest.mark.parametrize(
    "one",
    [
        reading(b'{"model":"a","model":"b"}'),
        reading(b'{"model":"a","\\u006dodel":"b"}'),
        reading(b'{"model":"a","x":NaN,"model":"b"}'),
        reading('{"model":"a","model":"b"}'.encode("utf-16")),
        reading(b'{"model":"a"}', f"{CHAT}?model=b"),
        reading(b"{}", f"{CHAT}?model=a&model=b"),
        reading(b"", f"{CHAT}?model=" + "a" * 9000),
        reading(b"model=a&model=b", "/x", content_type="application/x-www-form-urlencoded"),
    ],
)
def test_two_models_are_one_too_many(one: Reading) -> None:
    with pytest.raises(Refusal) as caught:
        one_model(one)
    assert (caught.value.status, caught.value.param) == (400, "model")


@pytest.mark.parametrize(
    "one",
    [
        reading(b'{"model":"a","x":{"model":"b"}}'),
        reading(b'{"model":"a","text":"\\u006d"}'),
        reading(b'{"model":"a"}', f"{CHAT}?model=a"),
        reading(b'\xef\xbb\xbf{"model":"a"}'),
        reading(b'{"model":"a","x":NaN}'),
        reading(b"{}"),
    ],
)
def test_one_model_is_enough(one: Reading) -> None:
    one_model(one)


def test_another_model_is_put_where_the_one_was_or_is_missing() -> None:
    assert with_model(reading(b'{"model":"a", "x":1}'), "b") == b'{"model":"b", "x":1}'
    assert with_model(reading(b'{"x":1}'), "b") == b'{"model":"b","x":1}'
    assert with_model(reading(b" { } "), "b") == b' {"model":"b" } '
    assert json.loads(with_model(reading('{"model":"a","x":NaN}'.encode("utf-16")), "b"))["model"] == "b"
    assert reading(b"{}").parsed is not None
    assert reading(b"{}").parsed.api is Api.OPENAI_CHAT
    for one in (
        reading(None, "/x?model=a", "GET"),
        reading(b"model=a", "/x", content_type="application/x-www-form-urlencoded"),
    ):
        with pytest.raises(Refusal):
            with_model(one, "b")
