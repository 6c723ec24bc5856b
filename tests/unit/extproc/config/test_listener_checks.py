from typing import Any

import pytest

from extproc.config import GatewayConfig, checks
from extproc.config.decode import decode

ORIGIN = "https://a.test"


def found(listener: dict[str, Any], envoy: dict[str, Any] | None = None) -> list[str]:
    decoded = decode({"listener": listener, "envoy": envoy}, set())
    problems = [*decoded.problems, *checks.problems(decoded, lambda _config: ())]
    return [problem.text("f").removeprefix("f: listener.") for problem in problems]


def doubts(listener: dict[str, Any]) -> list[str]:
    config = GatewayConfig.model_validate({"listener": listener})
    texts = [problem.text("f").removeprefix("f: ") for problem in checks.warnings(config)]
    return [text.removeprefix("listener.") for text in texts if text.startswith("listener.")]


@pytest.mark.parametrize(
    "listener",
    [
        {"cors": {"origins": [ORIGIN, "http://localhost:3000", "https://*.b.test", "null", "*"]}},
        {"cors": {"origins": [ORIGIN], "credentials": True, "headers": ["authorization"]}},
        {"paths": ["/v1/*", "/health", "/v1/models", "/a-b_c.d/*"]},
        {"tls": {"certFile": "/a", "keyFile": "/b"}},
    ],
)
def test_what_is_sound(listener: dict[str, Any]) -> None:
    assert found(listener) == []
    assert doubts(listener) == []


@pytest.mark.parametrize(
    ("listener", "problem"),
    [
        ({"cors": {"origins": []}}, "cors.origins: must not be empty"),
        ({"cors": {}}, "cors.origins: is missing"),
        ({"cors": {"origins": ["a.test"]}}, "cors.origins[0]: must be an origin"),
        ({"cors": {"origins": ["https://a.test/"]}}, "cors.origins[0]: must be an origin"),
        ({"cors": {"origins": ["https://a.*.test"]}}, "cors.origins[0]: must be an origin"),
        ({"cors": {"origins": [ORIGIN], "methods": ["post"]}}, "cors.methods[0]: must be a method"),
        ({"cors": {"origins": ["*"], "credentials": True}}, "cors.credentials: cannot be set beside the origin *"),
        ({"paths": []}, "paths: must not be empty"),
        ({"tls": {"certFile": "/a"}}, "tls.keyFile: is missing"),
        ({"headersWithUnderscores": "keep"}, "headersWithUnderscores: must be 'drop', 'forward' or 'reject'"),
        *[({"paths": [path]}, "paths[0]: must be a path")
          for path in ("", "v1", "/v1*", "/*/x", "/a//b", "/a/../b", "/a/.", "/a?x", "/a%20b", "/ü")],
    ],
)  # fmt: skip
def test_what_is_wrong(listener: dict[str, Any], problem: str) -> None:
    (text,) = found(listener)
    assert text.startswith(problem)


@pytest.mark.parametrize(
    ("listener", "doubt"),
    [
        ({"cors": {"origins": [ORIGIN], "credentials": True}}, "cors.headers: with credentials"),
        ({"paths": ["/*"]}, "paths: every path is served"),
    ],
)
def test_what_is_doubtful(listener: dict[str, Any], doubt: str) -> None:
    (text,) = doubts(listener)
    assert text.startswith(doubt)


@pytest.mark.parametrize(
    ("listener", "envoy", "problem"),
    [
        # Two bodies are to fit into three eighths of the heap.
        (
            {"maxBodyBytes": "1Gi"},
            {},
            "maxBodyBytes: needs envoy.maxHeap: 5462Mi, as room for two such bodies beside those of others",
        ),
        (
            {"maxBodyBytes": "1Gi"},
            {"maxHeap": "5461Mi"},
            "f: envoy.maxHeap: is too little for listener.maxBodyBytes: 1Gi (at least 5462Mi)",
        ),
        (
            {"maxBodyBytes": "1Mi", "maxUnsizedBodyBytes": "2Mi"},
            {},
            "maxUnsizedBodyBytes: is more than listener.maxBodyBytes",
        ),
    ],
)
def test_bodies_need_memory(listener: dict[str, Any], envoy: dict[str, Any], problem: str) -> None:
    assert found(listener, envoy) == [problem]


def test_memory_that_is_enough() -> None:
    assert found({"maxBodyBytes": "1Gi"}, {"maxHeap": "5462Mi"}) == []


def test_sizes_that_are_wrong_are_not_compared() -> None:
    (text,) = found({"maxBodyBytes": "2Gi"}, {})
    assert text.startswith("maxBodyBytes: must be")
