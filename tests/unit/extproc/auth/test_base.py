from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from extproc.auth.base import ALGORITHMS, AuthPolicy, Identity, Issuer, Pending

GOOD = Issuer("https://issuer.test", ("a",), "https://issuer.test/jwks")


@pytest.mark.parametrize(
    "uri", ["https://h/x", "http://h:8080/x?y=z", "file:///etc/keys.json", "file://localhost/k", "https://[::1]:8443/"]
)
def test_key_sets_are_at_https_http_or_in_a_file(uri: str) -> None:
    assert Issuer("i", (), uri).jwks_uri == uri


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "h/x",
        "ftp://h/x",
        "https:///x",
        "https://",
        "file://h/x",
        "file:",
        "https://u:p@h/x",
        "https://u@h/",
        "data:,{}",
    ],
)
def test_other_uris_are_an_error(uri: str) -> None:
    with pytest.raises(ValueError, match="URI of a key set"):
        Issuer("i", (), uri)


@pytest.mark.parametrize(
    ("uri", "issuer", "says"),
    [
        ("https://h/jwks", "https://h", "not both"),
        ("https://h/.well-known/openid-configuration", "", "give the issuer as oidcIssuer"),
        ("", "file:///keys", "must begin with"),
        ("", "https:///x", "must name a host"),
        ("", "https://u:p@h", "must not hold credentials"),
        ("", "https://h?x=y", "without query"),
        ("", "https://h/.well-known/oauth-authorization-server/", "without query and without"),
    ],
)
def test_keys_are_at_a_uri_or_where_a_discovery_document_says(uri: str, issuer: str, says: str) -> None:
    assert Issuer("i", (), "", oidc_issuer="https://h/tenant").oidc_issuer == "https://h/tenant"
    with pytest.raises(ValueError, match=says):
        Issuer("i", (), uri, oidc_issuer=issuer)


def test_an_empty_audience_is_an_error() -> None:
    with pytest.raises(ValueError, match="audience"):
        Issuer("i", ("a", ""), "https://h/x")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"issuers": ()}, "at least one"),
        ({"issuers": (GOOD, GOOD)}, "same name"),
        ({"issuers": (GOOD, Issuer("", (), "https://h/x"))}, "the only one"),
        ({"algorithms": ()}, "must be some of"),
        ({"algorithms": ("HS256",)}, "must be some of"),
        ({"algorithms": ("RS256", "none")}, "must be some of"),
        ({"required_claims": {"a": ["b"]}}, "required claim"),
        ({"required_claims": {"a": None}}, "required claim"),
        ({"clock_skew": -1.0}, "clock skew"),
        ({"clock_skew": float("nan")}, "clock skew"),
        ({"clock_skew": float("inf")}, "clock skew"),
        ({"jwks_max_stale": 59.0}, "60 seconds"),
        ({"jwks_max_stale": float("inf")}, "60 seconds"),
    ],
)
def test_a_policy_that_makes_no_sense_is_an_error(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        AuthPolicy(**{"issuers": (GOOD,), **values})


def test_a_policy_does_not_change() -> None:
    required: dict[str, object] = {"scope": "a", "level": 1, "staff": True, "share": 0.5}
    policy = AuthPolicy((GOOD,), ALGORITHMS, required)
    required.clear()
    assert policy.required_claims["scope"] == "a"
    with pytest.raises(TypeError):
        policy.required_claims["scope"] = "b"  # type: ignore[index]  # it is what is tested
    with pytest.raises(FrozenInstanceError):
        policy.clock_skew = 0.0  # type: ignore[misc]  # it is what is tested


def test_symmetric_algorithms_and_none_are_not_among_those_allowed() -> None:
    assert not [name for name in ALGORITHMS if name.upper().startswith(("HS", "NONE"))]


def test_an_identity_says_which_models_it_may_use() -> None:
    assert Identity("alice", "i", {}).may_use("any")
    some = Identity("alice", "i", {}, frozenset({"llama"}))
    assert some.may_use("llama")
    assert not some.may_use("llama-2")
    assert not Identity("alice", "i", {}, frozenset()).may_use("")


async def test_pending_waits_for_what_it_was_given() -> None:
    waited: list[int] = []

    async def wait() -> None:
        waited.append(1)

    await Pending(wait).wait()
    assert waited == [1]
