from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.config.decode import _problem, decode, known_keys
from extproc.config.model import GatewayConfig


def reasons(data: dict[str, Any]) -> list[str]:
    return [problem.text("f").removeprefix("f: ") for problem in decode(data, set()).problems]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"lissener": 1}, 'lissener: unknown key (did you mean "listener"?)'),
        ({"listener": {"prot": 1}}, 'listener.prot: unknown key (did you mean "port"?)'),
        ({"listener": {"max_body_bytes": 1}}, 'listener.max_body_bytes: unknown key (did you mean "maxBodyBytes"?)'),
        ({"listener": {"port": 1.0}}, "listener.port: must be a whole number, not the number 1"),
        ({"listener": {"port": "1"}}, 'listener.port: must be a whole number, not the string "1" (write it without quotes)'),
        ({"listener": {"port": True}}, "listener.port: must be a whole number, not true"),
        ({"listener": {"port": -1}}, "listener.port: must be 0 or more, not -1"),
        ({"listener": {"port": None}}, "listener.port: must be a whole number, not null"),
        ({"listener": {"host": 1}}, "listener.host: must be a string, not the number 1 (write it in quotes)"),
        ({"listener": {"host": []}}, "listener.host: must be a string, not a list"),
        ({"listener": []}, "listener: must be a mapping, not a list"),
        ({"endpoints": {"dns": {}}}, "endpoints.dns: must be a list, not a mapping"),
        ({"endpoints": {"dns": [{"port": 1}]}}, "endpoints.dns[0].name: is missing"),
        ({"endpoints": {"engines": []}}, "endpoints.engines: must be a mapping, not a list"),
        ({"endpoints": {"scrape": {"path": "metrics"}}}, 'endpoints.scrape.path: must be a path such as /metrics, not the string "metrics"'),
        ({"debug": {"responseHeader": "on"}}, 'debug.responseHeader: must be true or false, not the string "on" (write true, without quotes)'),
        ({"debug": {"responseHeader": "true"}}, 'debug.responseHeader: must be true or false, not the string "true" (write true, without quotes)'),
        ({"debug": {"responseHeader": "maybe"}}, 'debug.responseHeader: must be true or false, not the string "maybe"'),
        ({"logging": {"level": "INFO"}}, "logging.level: must be 'debug', 'info', 'warning' or 'error', not the string \"INFO\" (did you mean \"info\"?)"),
        ({"logging": {"level": 5}}, "logging.level: must be 'debug', 'info', 'warning' or 'error', not the number 5"),
        ({"logging": {"level": "?"}}, "logging.level: must be 'debug', 'info', 'warning' or 'error', not the string \"?\""),
        ({"auth": {"issuer": ""}}, "auth.issuer: must not be empty"),
        ({"auth": {"issuers": []}}, "auth.issuers: must not be empty"),
        ({"auth": {"requiredClaims": {"a": []}}}, "auth.requiredClaims.a: must be a string, a number, a boolean, or a list of some, not an empty list"),
        ({"auth": {"requiredClaims": {"a": None}}}, "auth.requiredClaims.a: must be a string, a number, a boolean, or a list of some, not null"),
        ({"scheduler": {"plugins": {"filter": {}}}}, 'scheduler.plugins.filter: unknown key (did you mean "Filter"?)'),
        ({"scheduler": {"plugins": {"Score": {"enabled": [{"name": "a", "weight": "1"}]}}}}, 'scheduler.plugins.Score.enabled[0].weight: must be a number, not the string "1" (write it without quotes)'),
        ({"scheduler": {"plugins": {"Score": {"enabled": [{"name": "a", "weight": 1e300}]}}}}, "scheduler.plugins.Score.enabled[0].weight: must be 1000000 or less, not 1e+300"),
        ({"endpoints": {"engines": {"e": {"kv_usage": []}}}}, 'endpoints.engines.e.kv_usage: unknown key (did you mean "kvUsage"?)'),
    ],
)  # fmt: skip
def test_each_mistake_in_words(data: dict[str, Any], reason: str) -> None:
    assert reasons(data) == [reason]


def test_all_mistakes_at_once_and_the_rest_decoded() -> None:
    decoded = decode(
        {
            "listener": {"port": "x", "host": "::1"},
            "endpoints": {"static": ["10.0.0.1:1", "bad", 5, {"address": "10.0.0.2:1", "nmae": "x"}, {"name": "x"}]},
            "what": 1,
        },
        set(),
    )
    assert [problem.path for problem in decoded.problems] == [
        ("endpoints", "static", 1, "address"),
        ("endpoints", "static", 2),
        ("endpoints", "static", 3, "nmae"),
        ("endpoints", "static", 4, "address"),
        ("listener", "port"),
        ("what",),
    ]
    assert decoded.config.listener.host == "::1"
    assert decoded.config.listener.port == 8080
    assert [pod.address for pod in decoded.config.endpoints.static] == ["10.0.0.1:1", "10.0.0.2:1"]
    # What moved up is known by the place where it was written.
    assert decoded.written_at(("endpoints", "static", 1, "address")) == ("endpoints", "static", 3, "address")
    assert decoded.written_at(("nowhere", 0)) == ("nowhere", 0)
    assert not decoded.sound(("listener", "host"), ("listener", "port"))
    assert decoded.sound(("listener", "host"))


def test_what_was_wrong_before_is_not_told_again() -> None:
    decoded = decode({"listener": {"port": None}, "endpoints": {"dns": [{"name": None, "port": 1}]}},
                     {("listener", "port"), ("endpoints", "dns", 0, "name")})  # fmt: skip
    assert decoded.problems == []
    assert not decoded.sound(("listener",))
    assert decoded.config == GatewayConfig()


@pytest.mark.parametrize(
    ("path", "some"),
    [
        ((), {"scheduler", "auth", "endpoints"}),
        (("auth",), {"issuer", "audiences", "jwksUri", "issuers"}),
        (("auth", "issuers", 3), {"issuer", "audiences", "jwksUri", "caFile"}),
        (("scheduler", "plugins", "Score", "enabled", 0), {"name", "weight"}),
        (("endpoints", "engines", "mine"), {"waiting", "kvUsage"}),
    ],
)
def test_the_keys_that_are_known(path: tuple[str | int, ...], some: set[str]) -> None:
    assert some <= set(known_keys(path))


@pytest.mark.parametrize(
    "path",
    [("nothing",), ("nothing", "below"), ("endpoints", "engines"), ("auth", "requiredClaims"), ("listener", "port")],
)
def test_where_keys_are_free_none_is_suggested(path: tuple[str | int, ...]) -> None:
    assert known_keys(path) == ()


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.sampled_from(["10.0.0.1:80", "5s"])
)
KEYS = st.sampled_from([*known_keys(()), *known_keys(("auth",)), *known_keys(("endpoints",)), "plugins", "Score", "enabled", "name", "x", "[key]"])  # fmt: skip
DATA = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=20,
)


@given(st.dictionaries(KEYS, DATA, max_size=5))
def test_anything_decodes_or_says_what_is_wrong(data: dict[str, Any]) -> None:
    decoded = decode(data, set())
    assert isinstance(decoded.config, GatewayConfig)
    for problem in decoded.problems:
        assert problem.path
        assert problem.text("f")
    if not decoded.problems:
        assert GatewayConfig.model_validate(data) == decoded.config


def test_mistakes_of_a_new_kind_are_told_in_pydantics_words() -> None:
    detail: Any = {"type": "new", "loc": ("a",), "msg": "Value should be new", "input": 5}
    problem = _problem(detail, ("a",), at_key=False)
    assert problem.text("f") == "f: a: value should be new, not the number 5"


def test_a_name_that_could_not_be_read_is_not_missing_where_others_went_before() -> None:
    """Places in what is left and places in the document differ from the first cut on."""
    enabled = [{"name": None}, {"name": None}, {"name": "a"}]
    data = {"scheduler": {"plugins": {"Score": {"enabled": enabled}}}}
    base = ("scheduler", "plugins", "Score", "enabled")
    decoded = decode(data, {(*base, 0), (*base, 1, "name")})
    assert decoded.problems == []
    assert [one.name for one in decoded.config.scheduler.plugins.score.enabled or ()] == ["a"]


def test_a_key_by_the_name_of_pydantics_mark_is_a_key() -> None:
    assert reasons({"endpoints": {"static": [{"address": "10.0.0.1:1", "labels": {"[key]": 5}}]}}) == [
        "endpoints.static[0].labels.[key]: must be a string, not the number 5 (write it in quotes)"
    ]
    decoded = decode({"auth": {"identityHeaders": {"host": "sub"}}}, set())
    assert [(problem.path, problem.at_key) for problem in decoded.problems] == [
        (("auth", "identityHeaders", "host"), True)
    ]
