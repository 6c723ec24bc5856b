from typing import Any

import pytest

from extproc.config import GatewayConfig, checks
from extproc.config.decode import decode

KEYS = "https://i.test/keys"
OIDC = "https://i.test"


def found(auth: dict[str, Any]) -> list[str]:
    decoded = decode({"auth": auth}, set())
    problems = [*decoded.problems, *checks.problems(decoded, lambda _config: ())]
    return [problem.text("f").removeprefix("f: ") for problem in problems]


def doubts(auth: dict[str, Any]) -> list[str]:
    config = GatewayConfig.model_validate({"auth": auth})
    texts = [problem.text("f").removeprefix("f: ") for problem in checks.warnings(config)]
    return [text for text in texts if text.startswith("auth")]


@pytest.mark.parametrize(
    "auth",
    [
        {"oidcIssuer": OIDC, "audiences": ["a"]},
        {"oidcIssuer": "https://i.test/realms/r", "audiences": ["a"], "jwksTokenFile": "/token", "caFile": "/ca"},
        {"apiKeys": {"file": "/keys"}},
        {"apiKeys": {"file": "/keys"}, "jwksUri": KEYS, "issuer": "i", "audiences": ["a"]},
        {"issuers": [{"oidcIssuer": OIDC, "audiences": ["a"]}, {"jwksUri": KEYS, "issuer": "i", "audiences": ["a"]}]},
        {"apiKeys": {"file": "/keys"}, "requiredClaims": {"a.b": ["x", 1, True], "c": "d"}, "tokenHeaders": []},
    ],
)
def test_what_is_sound(auth: dict[str, Any]) -> None:
    assert found(auth) == []
    assert doubts(auth) == []


@pytest.mark.parametrize(
    ("auth", "problem"),
    [
        (
            {"jwksUri": f"{OIDC}/.well-known/openid-configuration"},
            "auth.jwksUri: this is an issuer's discovery document",
        ),
        ({"jwksUri": f"{OIDC}/r/.well-known/openid-configuration/"}, "auth.jwksUri: this is an issuer's discovery"),
        ({"oidcIssuer": f"{OIDC}/.well-known/openid-configuration"}, "auth.oidcIssuer: an issuer is given without"),
        ({"oidcIssuer": f"{OIDC}?x"}, "auth.oidcIssuer: an issuer is given without query"),
        ({"oidcIssuer": "i.test"}, "auth.oidcIssuer: an issuer must begin with https://"),
        ({"oidcIssuer": "https://u:p@i.test"}, "auth.oidcIssuer: the URI of a key set must not hold credentials"),
        ({"oidcIssuer": "https://i.test/ x"}, "auth.oidcIssuer: must not hold spaces"),
        ({"oidcIssuer": OIDC, "jwksUri": KEYS}, "auth.jwksUri: cannot be set beside oidcIssuer"),
        ({"oidcIssuer": OIDC, "issuer": "i"}, "auth.issuer: cannot be set beside oidcIssuer"),
        ({"issuers": [{"oidcIssuer": OIDC}], "oidcIssuer": OIDC}, "auth.oidcIssuer: cannot be set beside issuers"),
        (
            {"issuers": [{"oidcIssuer": OIDC}, {"jwksUri": KEYS, "issuer": OIDC}]},
            "auth.issuers[1].issuer: is the issuer",
        ),
        ({"forwardToken": True}, "auth.jwksUri: is missing"),
        ({"apiKeys": {}}, "auth.apiKeys.file: is missing"),
        ({"apiKeys": {"file": "keys"}}, "auth.apiKeys.file: must be the absolute path"),
        (
            {"apiKeys": {"file": "/k"}, "tokenHeaders": ["authorization"]},
            "auth.tokenHeaders[0]: this header is reserved",
        ),
        ({"apiKeys": {"file": "/k"}, "tokenHeaders": ["x_key"]}, "auth.tokenHeaders[0]: must be spelt with hyphens"),
        ({"apiKeys": {"file": "/k"}, "requiredClaims": {"a": []}}, "auth.requiredClaims.a: must be a string"),
        ({"apiKeys": {"file": "/k"}, "requiredClaims": {"a": [["x"]]}}, "auth.requiredClaims.a: must be a string"),
        ({"apiKeys": {"file": "/k"}, "maxTokenBytes": "64Ki"}, "auth.maxTokenBytes: must be from"),
    ],
)
def test_what_is_wrong(auth: dict[str, Any], problem: str) -> None:
    (text,) = found(auth)
    assert text.startswith(problem)


def test_plain_http_is_doubtful_for_discovery_too() -> None:
    (text,) = doubts({"oidcIssuer": "http://i.test", "audiences": ["a"]})
    assert text.startswith("auth.oidcIssuer: plain http")
