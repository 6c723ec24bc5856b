import json
from typing import Any

import pytest

from extproc.auth.base import Identity
from extproc.errors import Refusal
from extproc.models.catalogue import Catalogue, listed
from extproc.protocol.headers import METHOD, PATH, Headers
from extproc.routing.routes import Route, Routes, Rule, Target

UNNAMED = Route("", (Target("one"),))
ROUTES = Routes(
    [
        Rule(Route("a", (Target("one", model="org/a"),)), ("a", "b"), ("sql",)),
        Rule(Route("x", (Target("two"),)), ("c/d",)),
    ],
    UNNAMED,
)


def ask(one: Catalogue, path: str = "/v1/models", *, routes: Routes | None = None, models: Any = None,
        anthropic: bool = False, method: str = "GET") -> Any:  # fmt: skip
    headers = [(METHOD, method.encode()), (PATH, path.encode())] + ([("anthropic-version", b"1")] if anthropic else [])
    identity = None if models is None else Identity("s", "", {}, frozenset(models))
    body = one.answer(Headers(headers), identity, routes)
    return None if body is None else json.loads(body)


def ids(page: Any) -> list[str]:
    return [model["id"] for model in page["data"]]


def test_names_of_routes_hide_those_of_pods() -> None:
    one = Catalogue("one", 5.9)
    one.told("one", ["org/a", "secret"])
    page = ask(one, routes=ROUTES)
    assert page["object"] == "list"
    assert ids(page) == ["a", "b", "c/d", "sql"]
    assert page["data"][0] == {"id": "a", "object": "model", "created": 5, "owned_by": "infer-gateway"}
    assert ask(one, "/v1/models/c%2Fd", routes=ROUTES)["id"] == ask(one, "/v1/models/c/d", routes=ROUTES)["id"] == "c/d"
    with pytest.raises(Refusal) as caught:
        ask(one, "/v1/models/secret", routes=ROUTES)
    assert caught.value.status == 404


def test_a_token_sees_what_it_may_use() -> None:
    one = Catalogue("one", 0)
    assert ids(ask(one, routes=ROUTES, models=["b", "sql", "z"])) == ["b", "sql"]
    assert ids(ask(one, routes=ROUTES, models=[])) == []
    with pytest.raises(Refusal):
        ask(one, "/v1/models/a", routes=ROUTES, models=["b"])


def test_without_routes_what_the_pods_list() -> None:
    one = Catalogue("one", 0)
    with pytest.raises(Refusal) as caught:
        ask(one)
    assert (caught.value.status, caught.value.headers) == (503, {"retry-after": "1"})
    one.told("other", ["x"])
    with pytest.raises(Refusal):
        ask(one)
    one.told("one", ["m", "n", "m"])
    assert ids(ask(one)) == ids(ask(one, "/models?x=1")) == ["m", "n"]


def test_a_route_for_all_names_shows_its_pods() -> None:
    one = Catalogue("one", 0)
    for target, expected in ((Target("two"), ["a", "m"]), (Target("two", model="only"), ["a"])):
        routes = Routes([Rule(Route("a", (Target("one"),)), ("a",)), Rule(Route("", (target,)))], UNNAMED)
        one.told("two", ["m"])
        assert ids(ask(one, routes=routes)) == expected


def test_anthropics_shape() -> None:
    one = Catalogue("one", 0)
    one.told("one", ["m", "n"])
    page = ask(one, anthropic=True)
    assert (page["first_id"], page["last_id"], page["has_more"]) == ("m", "n", False)
    assert page["data"][0] == {"type": "model", "id": "m", "display_name": "m", "created_at": "1970-01-01T00:00:00Z"}
    assert ask(one, "/v1/models/n", anthropic=True)["type"] == "model"
    one.told("one", [])
    assert ask(one, anthropic=True)["first_id"] is None


@pytest.mark.parametrize(
    ("path", "method"), [("/v1/models", "POST"), ("/v1/modelsx", "GET"), ("/v2/models", "GET"), ("/v1/chat", "GET")]
)
def test_what_is_none_of_its_business(path: str, method: str) -> None:
    assert ask(Catalogue("one", 0), path, method=method) is None


def test_what_pods_say() -> None:
    assert listed(b'{"object":"list","data":[{"id":"m","root":1},{"id":""},{"id":"n"}]}') == ["m", "n"]
    for rubbish in (b"", b"[]", b'{"data":1}', b'{"data":[{"id":1}]}', b"\xff"):
        with pytest.raises(ValueError):  # noqa: PT011 - whichever it is
            listed(rubbish)
