from pathlib import Path
from typing import Any

import pytest

from extproc.config import GatewayConfig, checks, loads
from extproc.config.decode import decode
from extproc.routing.routes import Route, Target

POOLS: dict[str, Any] = {"large": {"static": ["10.0.0.1:1"]}, "small": {"static": ["10.0.0.2:1"]}}


def found(data: dict[str, Any]) -> list[str]:
    decoded = decode({"pools": POOLS, **data}, set())
    problems = [*decoded.problems, *checks.problems(decoded, lambda _config: ())]
    return [problem.text("f").removeprefix("f: ") for problem in problems]


def doubts(data: dict[str, Any]) -> list[str]:
    texts = [problem.text("f").removeprefix("f: ") for problem in checks.warnings(GatewayConfig.model_validate(data))]
    return [text for text in texts if not text.startswith("auth:")]


def to(*pools: str, **more: Any) -> dict[str, Any]:
    return {"targets": [{"pool": pool} for pool in pools], **more}


def test_what_is_sound() -> None:
    routes = [
        to("large", model="a", adapters=["x"]),
        to("small", "default", models=["b", "c"]),
        {"targets": [{"pool": "large", "weight": 0}, {"pool": "small", "weight": 0.5, "model": "d"}]},
    ]
    assert found({"routes": routes}) == []


@pytest.mark.parametrize(
    ("data", "problems"),
    [
        (
            {"routes": [to("larg", "nowhere", model="a")]},
            [
                'routes[0].targets[0].pool: there is no pool "larg": default, large, small (did you mean "large"?)',
                'routes[0].targets[1].pool: there is no pool "nowhere": default, large, small',
            ],
        ),
        (
            {"routes": [to("large", model="a"), to("small", models=["b", "a"], adapters=["b"])]},
            [
                'routes[1].models[1]: "a" is named in routes[0] already',
                'routes[1].adapters[0]: "b" is named in routes[1] already',
            ],
        ),
        (
            {"routes": [to("large", model="a", models=["b"])]},
            ["routes[0].models: cannot be set beside model: write all names here, or one there"],
        ),
        (
            {"routes": [to("large"), to("small")]},
            ["routes[0]: has no model, models or adapters, so it is for every model and must be the last route"],
        ),
        (
            {"routes": [{"model": "a", "targets": [{"pool": "large", "weight": 0}]}]},
            ["routes[0].targets: have no weight above 0: none would get a request"],
        ),
        ({"routes": [{"model": "a", "targets": []}]}, ["routes[0].targets: must not be empty"]),
        ({"routes": [{"model": "a"}]}, ["routes[0].targets: is missing"]),
        (
            {"routes": [{"model": "", "targets": [{"pool": "large", "model": ""}]}]},
            ["routes[0].model: must not be empty", "routes[0].targets[0].model: must not be empty"],
        ),
        (
            {"routes": [{"modle": "a", "targets": [{"pool": "large", "weight": -1}]}, to("small")]},
            [
                'routes[0].modle: unknown key (did you mean "model"?)',
                "routes[0].targets[0].weight: must be 0 or more, not -1",
            ],
        ),
        (
            {"pools": {"default": {}, "a b": {}, "ok": {"static": ["x"]}}, "routes": [to("ok", "a b")]},
            [
                'pools.a b: must be a name of up to 63 letters, digits, dots, hyphens and underscores, not the string "a b"',
                'pools.ok.static[0].address: must be host:port, not the string "x"',
                "pools.default: is the name of the pool of `endpoints`: choose another, or move it there",
            ],
        ),
        (
            {"pools": {"p": {"static": ["10.0.0.1:1"] * 2, "engine": "vlm", "kubernetes": {}}}, "routes": [to("p")]},
            [
                "pools.p.static[1].address: 10.0.0.1:1 is listed already, at static[0]",
                "pools.p.kubernetes: names no pods: give one of service, selector, inferencePool",
                'pools.p.engine: there is no engine "vlm"',
            ],
        ),
    ],
)
def test_what_is_wrong_is_all_told_at_once(data: dict[str, Any], problems: list[str]) -> None:
    told = found(data)
    assert len(told) == len(problems), told
    for text, expected in zip(sorted(told), sorted(problems), strict=True):
        assert text.startswith(expected)


def test_what_is_doubtful() -> None:
    assert doubts({"pools": POOLS, "routes": [to("large")]}) == [
        "pools.small: no route leads to this pool: it gets no requests"
    ]
    nowhere = "none of static, dns, file and kubernetes says where the pods are: requests get a 503"
    assert doubts({"pools": {"e": {}}, "routes": [to("e", "default")]}) == [
        f"endpoints: {nowhere}",
        f"pools.e: {nowhere}",
    ]
    assert len(doubts({"pools": POOLS})) == 3


def test_answers_are_rewritten_where_there_is_something_to() -> None:
    route = {"rewriteAnswers": True, "targets": [{"pool": "small", "model": "m"}]}
    assert found({"routes": [route]}) == []
    assert GatewayConfig.model_validate({"pools": POOLS, "routes": [route]}).rewrites_answers()
    assert not GatewayConfig().rewrites_answers()
    assert doubts({"pools": POOLS, "routes": [to("small", "large", rewriteAnswers=True)]}) == [
        "routes[0].rewriteAnswers: no target has another name for the model: there is nothing to rewrite"
    ]


def test_pools_that_there_are() -> None:
    def pools(**data: Any) -> list[str]:
        return list(GatewayConfig.model_validate(data).all_pools())

    here = {"static": ["10.0.0.9:1"]}
    assert pools() == ["default"]
    assert pools(pools=POOLS) == ["default", "large", "small"]
    assert pools(pools=POOLS, routes=[to("large")]) == ["large", "small"]
    assert pools(pools=POOLS, routes=[to("default")]) == ["default", "large", "small"]
    assert pools(pools=POOLS, routes=[to("large")], endpoints=here) == ["default", "large", "small"]


def test_requests_without_a_model() -> None:
    def unnamed(**data: Any) -> Route:
        routes = GatewayConfig.model_validate({"pools": POOLS, "routes": [to("small", model="a")], **data}).routing()
        assert routes is not None
        return routes.unnamed

    assert unnamed() == Route("", (Target("small"),))
    assert unnamed(endpoints={"static": ["10.0.0.9:1"]}) == Route("", (Target("default"),))
    assert GatewayConfig().routing() is None


def test_the_documented_example_does_what_is_said_of_it() -> None:
    text = (Path(__file__).parents[4] / "docs" / "routing.md").read_text(encoding="utf-8")
    document = text.partition("```yaml\n")[2].partition("```")[0]
    routes = loads(document, "routing.md").config.routing()
    assert routes is not None
    for model, sent in {
        "llama-3.3-70b": [("large", "meta-llama/Llama-3.3-70B-Instruct")],
        "sql-assistant": [("large", "")],
        "default-chat": [("small", "Qwen/Qwen2.5-7B-Instruct"), ("small-next", "Qwen/Qwen3-8B")],
    }.items():
        route = routes.find(model)
        assert route is not None
        assert [(target.pool, target.model) for target in route.targets] == sent
    assert routes.find("gpt-4") is None
    assert routes.unnamed.targets == (Target("large"),)
