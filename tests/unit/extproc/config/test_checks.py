from collections.abc import Sequence
from typing import Any

import pytest

from extproc.config import checks
from extproc.config.decode import decode
from extproc.config.model import GatewayConfig
from scheduler.config import PluginConfig, SchedulerConfig
from scheduler.errors import PluginConfigError

KEYS = "https://idp.example.com/jwks"


def no_plugins(_config: SchedulerConfig) -> Sequence[PluginConfigError]:
    return ()


def found(data: dict[str, Any]) -> list[str]:
    return [problem.text("f").removeprefix("f: ") for problem in checks.problems(decode(data, set()), no_plugins)]


def doubts(data: dict[str, Any]) -> list[str]:
    texts = [problem.text("f").removeprefix("f: ") for problem in checks.warnings(GatewayConfig.model_validate(data))]
    return [text for text in texts if not text.startswith("endpoints:")]


def test_the_defaults_are_sound() -> None:
    assert found({}) == []


@pytest.mark.parametrize(
    "auth",
    [
        {"issuer": "me"},
        {"audiences": ["a"]},
        {"audiences": []},
        {"clockSkew": 5},
        {"models": "m"},
        {"caFile": "/ca.pem"},
    ],
)
def test_auth_that_only_looks_closed(auth: dict[str, Any]) -> None:
    (problem,) = found({"auth": auth})
    assert problem.startswith(f"auth.jwksUri: is missing: auth has {next(iter(auth))}, yet no token would be checked")


@pytest.mark.parametrize(
    "auth", [None, {}, {"issuer": None, "jwksUri": None}, {"jwksUri": KEYS}, {"issuers": [{"jwksUri": KEYS}]}]
)
def test_auth_that_is_what_it_looks_like(auth: dict[str, Any] | None) -> None:
    assert found({"auth": auth}) == []


@pytest.mark.parametrize(
    "wrong", [{"jwksURI": KEYS}, {"jwksUri": 5}, {"jwksUri": "x"}, {"issuers": []}, {"issuer": ""}]
)
def test_what_is_wrong_is_not_missing(wrong: dict[str, Any]) -> None:
    """`decode` has told of it."""
    reported = found({"auth": {"audiences": ["a"], **wrong}})
    assert bool(reported) is ("issuer" in wrong)


def test_a_key_set_that_could_not_be_read_is_not_missing() -> None:
    decoded = decode({"auth": {"issuer": "me", "jwksUri": None}}, {("auth", "jwksUri")})
    assert list(checks.problems(decoded, no_plugins)) == []


def test_auth_is_missed_beside_other_mistakes() -> None:
    assert len(found({"auth": {"issuer": "me", "clockSkew": "x"}})) == 1


def test_several_issuers() -> None:
    one, two = {"issuer": "a", "jwksUri": KEYS}, {"issuer": "b", "jwksUri": KEYS}
    assert found({"auth": {"issuers": [one, two]}}) == []
    assert found({"auth": {"issuers": [one, {"jwksUri": KEYS}, {**two, "issuer": "a"}, {"issuer": "c"}]}}) == [
        "auth.issuers[1].issuer: is missing: one of several issuers is found by its name",
        "auth.issuers[2].issuer: is the issuer of issuers[0] already",
        "auth.issuers[3].jwksUri: is missing (or oidcIssuer)",
    ]
    # An entry that is wrong has been told of.
    assert found({"auth": {"issuers": [one, {"issuer": "a", "x": 1}]}}) == []


@pytest.mark.parametrize(("key", "value"), [("issuer", "x"), ("audiences", ["x"]), ("jwksUri", KEYS)])
def test_one_issuer_or_several(key: str, value: object) -> None:
    (problem,) = found({"auth": {"issuers": [{"jwksUri": KEYS}], key: value}})
    assert problem == f"auth.{key}: cannot be set beside issuers: move it into an entry of that list"


def test_every_policy_that_passes_can_be_built() -> None:
    for auth in (
        {"jwksUri": KEYS, "algorithms": ["RS256"], "clockSkew": 0, "jwksMaxStale": "1m"},
        {"issuers": [{"jwksUri": KEYS}]},
    ):
        assert found({"auth": auth}) == []
        assert GatewayConfig.model_validate({"auth": auth}).auth_policy() is not None


def test_pods_are_listed_once() -> None:
    static = ["10.0.0.1:80", {"address": "10.0.0.1:80", "name": "again"}, "[::1]:80", "bad", "[0::1]:80"]
    decoded = decode(
        {"endpoints": {"static": static, "dns": [{"name": "a", "port": 1}, {"name": "A.", "port": 1}]}}, set()
    )
    problems = list(checks.problems(decoded, no_plugins))
    assert [decoded.written_at(problem.path) for problem in problems] == [
        ("endpoints", "static", 1, "address"),
        ("endpoints", "static", 4, "address"),
        ("endpoints", "dns", 1, "name"),
    ]
    assert "10.0.0.1:80 is listed already, at static[0]" in problems[0].reason
    assert found({"endpoints": {"dns": [{"name": "a", "port": 1}, {"name": "a", "port": 2}]}}) == []


def test_a_port_is_given_once() -> None:
    def dns(*names: Any) -> list[tuple[Any, str, str]]:
        decoded = decode({"endpoints": {"dns": [*names]}}, set())
        found = [(one.path, one) for one in decoded.problems]
        found += [(decoded.written_at(one.path), one) for one in checks.problems(decoded, no_plugins)]
        return [(path[2:], one.reason, one.hint) for path, one in found]

    service = {"name": "_http._tcp.a", "type": "SRV"}
    assert dns({"name": "a", "port": 1}, service) == []
    missing = "is missing: only SRV records have ports"
    assert dns({"name": "a"}) == [((0, "port"), missing, "")]
    assert dns({"name": "_http._tcp.a"}) == [((0, "port"), missing, "for SRV records, add type: SRV")]
    twice = "cannot be set beside type: SRV, whose records have the ports"
    assert dns(service | {"port": 1}) == [((0, "port"), twice, "leave it out")]
    assert dns(service, service) == [((1, "name"), "_http._tcp.a is listed already, at dns[0]", "")]
    # What is wrong in itself is told once, also where something before it was left out.
    for wrong in ({"name": "a", "port": "1"}, {"name": "a", "type": "srv"}):
        assert [place for place, _, _ in dns({"name": 5}, wrong)] == [(0, "name"), (1, list(wrong)[1])]


def test_kubernetes_is_asked_for_one_thing() -> None:
    def kubernetes(**data: Any) -> list[str]:
        return found({"endpoints": {"kubernetes": data}})

    service, pool = {"name": "s"}, {"name": "p"}
    assert kubernetes(service=service, kubeconfig="/k", context="c") == []
    assert kubernetes() == ["endpoints.kubernetes: names no pods: give one of service, selector, inferencePool"]
    assert kubernetes(inferencePool=pool, service=service) == [
        "endpoints.kubernetes.inferencePool: cannot be set beside service: one of the two says which pods"
    ]
    assert kubernetes(service=service, context="c") == [
        "endpoints.kubernetes.context: is of a kubeconfig, and none is given"
    ]
    # What is wrong is told of once.
    assert found({"endpoints": {"kubernetes": {"service": {"name": "S"}}}}) == []
    assert kubernetes(service=service, kubeconfig="k", context="c") == []


def test_it_is_said_when_nothing_says_where_the_pods_are() -> None:
    def said(endpoints: dict[str, Any]) -> bool:
        config = GatewayConfig.model_validate({"endpoints": endpoints})
        return any("says where the pods are" in problem.reason for problem in checks.warnings(config))

    assert said({})
    for endpoints in (
        {"static": ["10.0.0.1:80"]},
        {"dns": [{"name": "a", "port": 1}]},
        {"file": {"path": "/pods"}},
        {"kubernetes": {"service": {"name": "s"}}},
    ):
        assert not said(endpoints)


def test_engines_are_known() -> None:
    assert found({"endpoints": {"engine": "sglang"}}) == []
    assert found({"endpoints": {"engine": "mine", "engines": {"mine": {"waiting": ["w"]}}}}) == []
    (problem,) = found({"endpoints": {"engine": "vlm", "engines": {"mine": {"waiting": ["w"]}}}})
    assert problem.startswith('endpoints.engine: there is no engine "vlm": vllm, ')
    assert problem.endswith('mine, or one of your own in engines (did you mean "vllm"?)')
    # The engine may be the one that is wrong.
    assert found({"endpoints": {"engine": "mine", "engines": {"mine": 5}}}) == []


def test_an_engine_names_metrics() -> None:
    assert found({"endpoints": {"engines": {"mine": {}}}}) == ["endpoints.engines.mine: names no metric"]
    assert found({"endpoints": {"engines": {"mine": {"waitin": ["w"]}}}}) == []


def test_metrics_must_live_until_the_next_scrape() -> None:
    assert found({"endpoints": {"staleAfter": "201ms"}}) == []
    assert found({"endpoints": {"scrape": {"interval": "1h"}}}) == []
    (problem,) = found({"endpoints": {"staleAfter": "200ms"}})
    assert problem.startswith("endpoints.staleAfter: must be longer than scrape.interval")
    assert found({"endpoints": {"staleAfter": "200ms", "scrape": {"interval": "x"}}}) == []


@pytest.mark.parametrize(
    ("data", "taken"),
    [
        ({"listener": {"port": 9090}}, ["admin.port: port 9090 is the port of listener.port already"]),
        ({"admin": {"port": 8080}, "listener": {"host": "::"}}, ["admin.port: port 8080 is the port of listener.port already"]),
        ({"admin": {"host": "10.0.0.1"}, "listener": {"host": "127.0.0.1", "port": 9090}}, []),
        ({"listener": {"port": 0}, "admin": {"port": 0}}, []),
        ({"transport": {"address": "127.0.0.1:9090"}}, ["transport.address: port 9090 is the port of admin.port already"]),
        ({"transport": {"address": "localhost:9090"}}, []),
        ({"listener": {"port": 9090, "host": 5}}, []),
    ],
)  # fmt: skip
def test_one_port_for_one_thing(data: dict[str, Any], taken: list[str]) -> None:
    assert found(data) == taken


def test_plugins_are_judged_by_who_knows_them() -> None:
    seen: list[SchedulerConfig] = []

    def validate(config: SchedulerConfig) -> Sequence[PluginConfigError]:
        seen.append(config)
        return [
            PluginConfigError("no such\nplugin " + "x" * 500, ("plugins", "Score", "enabled", 0, "name"), "kv-cache")
        ]

    data = {"scheduler": {"pluginConfig": [{"name": "a", "args": {"b": 1}}]}}
    (problem,) = checks.problems(decode(data, set()), validate)
    assert seen == [SchedulerConfig(plugin_config=(PluginConfig("a", {"b": 1}),))]
    assert problem.path == ("scheduler", "plugins", "Score", "enabled", 0, "name")
    assert problem.hint == "kv-cache"
    assert len(problem.reason) == 300
    assert problem.reason.isprintable()


def test_the_schedulers_own_plugins() -> None:
    config = GatewayConfig.model_validate({"scheduler": {"plugins": {"Filter": {"enabled": ["least-requests"]}}}})
    (error,) = checks.validate_plugins(config.scheduler.config())
    assert error.path == ("plugins", "Filter", "enabled", 0)
    assert error.hint == "least-request"
    assert checks.validate_plugins(SchedulerConfig()) == []


def test_doubts_about_auth() -> None:
    assert doubts({}) == doubts({"auth": {}}) == ["auth: authentication is off: every request is let in"]
    assert doubts({"auth": {"issuer": "me", "audiences": ["a"], "jwksUri": KEYS}}) == []
    assert doubts({"auth": {"jwksUri": "http://idp.example.com/jwks"}}) == [
        "auth.jwksUri: plain http: whoever is on the way can give the gateway keys of their own (use https)",
        "auth: no issuer is given: a token may come from any issuer that uses these keys",
        "auth: no audiences are given: tokens made for other services are let in, too",
    ]
    assert doubts({"auth": {"issuer": "me", "audiences": ["a"], "jwksUri": "http://127.0.0.1/jwks"}}) == []
    issuers = [{"issuer": "a", "audiences": ["x"], "jwksUri": KEYS}, {"issuer": "b", "jwksUri": KEYS}]
    assert doubts({"auth": {"issuers": issuers}}) == [
        "auth.issuers[1]: no audiences are given: tokens made for other services are let in, too"
    ]


def test_a_gateway_without_pods_is_doubtful() -> None:
    def paths(data: dict[str, Any]) -> list[object]:
        return [problem.path for problem in checks.warnings(GatewayConfig.model_validate(data))]

    assert ("endpoints",) in paths({})
    assert ("endpoints",) not in paths({"endpoints": {"static": ["10.0.0.1:80"]}})
    assert ("endpoints",) not in paths({"endpoints": {"dns": [{"name": "a", "port": 1}]}})


@pytest.mark.parametrize("address", ["127.0.0.1:9002", "unix:///run/x.sock"])
@pytest.mark.parametrize("mode", ["auto", "sidecar", "grpcio"])
def test_both_servers_take_any_address(mode: str, address: str) -> None:
    assert found({"transport": {"mode": mode, "address": address}}) == []


def test_objectives_are_watched_where_pods_are() -> None:
    (problem,) = found({"objectives": {"watch": True}})
    assert problem.startswith("objectives.watch: needs endpoints.kubernetes")
    kubernetes = {"kubernetes": {"inferencePool": {"name": "p"}}}
    assert found({"objectives": {"watch": True}, "endpoints": kubernetes}) == []


TCP = "127.0.0.1:9002"
PAIR = {"certFile": "/tls/tls.crt", "keyFile": "/tls/tls.key"}


@pytest.mark.parametrize(("key", "value"), [("workers", 2), ("standby", True)])
def test_several_processes_are_for_unix_sockets(key: str, value: object) -> None:
    assert found({"transport": {key: value}}) == []
    (problem,) = found({"transport": {"address": TCP, key: value}})
    assert problem.startswith(f"transport.{key}: is for an Envoy on Unix sockets: ")


@pytest.mark.parametrize(
    "tls", [None, PAIR, {**PAIR, "clientCaFile": "/tls/ca.crt"}, {"selfSigned": True}, {"selfSigned": False, **PAIR}]
)
def test_tls_that_is_complete(tls: dict[str, Any] | None) -> None:
    assert found({"transport": {"address": TCP, "tls": tls}}) == []


@pytest.mark.parametrize(
    ("tls", "problems"),
    [
        ({}, ["transport.tls: has no certificate: give certFile and keyFile, or selfSigned: true"]),
        ({"clientCaFile": "/a"}, ["transport.tls: has no certificate: give certFile and keyFile, or selfSigned: true"]),
        ({"certFile": "/a"}, ["transport.tls.keyFile: is missing: certFile needs it"]),
        ({"keyFile": "/a"}, ["transport.tls.certFile: is missing: keyFile needs it"]),
        (
            {"selfSigned": True, **PAIR},
            [
                f"transport.tls.{key}: cannot be set beside selfSigned: one certificate is enough"
                for key in ("certFile", "keyFile")
            ],
        ),
    ],
)
def test_tls_that_is_not(tls: dict[str, Any], problems: list[str]) -> None:
    assert found({"transport": {"address": TCP, "tls": tls}}) == problems


def test_tls_is_for_tcp() -> None:
    (text,) = found({"transport": {"tls": PAIR}})
    assert text.startswith("transport.tls: is for TCP: a Unix socket is this user's alone")
    assert "set transport.address to host:port" in text
    # What is wrong already is not judged.
    assert found({"transport": {"address": 5, "tls": PAIR}}) == []
    assert found({"transport": {"tls": {"certFil": "/a"}}}) == []


@pytest.mark.parametrize(
    ("endpoints", "labelled"),
    [
        ({"static": ["10.0.0.1:80"]}, False),
        ({"static": ["10.0.0.1:80", {"address": "10.0.0.2:80", "labels": {"a": "b"}}]}, True),
        ({"dns": [{"name": "a", "port": 1}]}, False),
        ({"file": {"path": "/pods.yaml"}}, True),
        ({"kubernetes": {"service": {"name": "a"}}}, False),
        ({"kubernetes": {"inferencePool": {"name": "a"}}}, True),
    ],
)
def test_roles_are_labels(endpoints: dict[str, Any], labelled: bool) -> None:
    told = [
        text for text in doubts({"endpoints": endpoints, "disaggregation": {"thresholdTokens": 1}}) if "prefill" in text
    ]
    assert (told == []) is labelled
    assert not [text for text in doubts({"endpoints": endpoints}) if "prefill" in text]
