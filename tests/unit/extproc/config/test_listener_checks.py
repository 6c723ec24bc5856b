from typing import Any

import pytest

from extproc.config import GatewayConfig, checks
from extproc.config.decode import decode

ORIGIN = "https://a.test"


def found(listener: dict[str, Any]) -> list[str]:
    decoded = decode({"listener": listener}, set())
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
