import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.auth.base import Reason
from extproc.auth.claims import MAX_NUMERIC_DATE, check_audience, check_subject, check_times, claim, has, models
from extproc.auth.token import TokenError

NOW = 1_000.0


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": 1001}, None),
        ({"exp": 1000.5}, None),
        ({"exp": 1000}, Reason.EXPIRED),
        ({"exp": 999.9}, Reason.EXPIRED),
        ({"exp": MAX_NUMERIC_DATE}, None),
        ({"exp": MAX_NUMERIC_DATE + 1}, Reason.MALFORMED),
        ({"exp": -MAX_NUMERIC_DATE - 1}, Reason.MALFORMED),
        ({"exp": math.nan}, Reason.MALFORMED),
        ({"exp": 10**5000}, Reason.MALFORMED),
        ({}, Reason.NO_EXPIRY),
        ({"nbf": 0}, Reason.NO_EXPIRY),
        ({"exp": 2000, "nbf": 1060}, None),
        ({"exp": 2000, "nbf": 1060.5}, Reason.NOT_YET_VALID),
        ({"exp": 2000, "iat": 1060}, None),
        ({"exp": 2000, "iat": 1061}, Reason.NOT_YET_VALID),
        ({"exp": 2000, "nbf": 0, "iat": "0"}, Reason.MALFORMED),
        ({"exp": 2000, "nbf": None}, Reason.MALFORMED),
        ({"exp": 1, "nbf": "0"}, Reason.MALFORMED),
        ({"exp": 1, "nbf": 5000}, Reason.EXPIRED),
    ],
)
def test_times(claims: dict[str, object], reason: Reason | None) -> None:
    if reason is None:
        assert check_times(claims, now=NOW, clock_skew=60.0) == claims["exp"]
    else:
        with pytest.raises(TokenError) as caught:
            check_times(claims, now=NOW, clock_skew=60.0)
        assert caught.value.reason is reason


_value = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=2) | st.lists(st.text(max_size=2))


@given(st.dictionaries(st.sampled_from(["exp", "nbf", "iat", "sub", "aud", "scope"]), _value))
def test_any_claims_pass_or_are_a_token_error(claims: dict[str, object]) -> None:
    try:
        assert isinstance(check_subject(claims), str)
        check_audience(claims, frozenset({"a"}))
        assert check_times(claims, now=NOW, clock_skew=60.0) > NOW
        has(claims, "scope", "a")
        models(claims, "scope")
    except TokenError:
        pass


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"aud": "a"}, None),
        ({"aud": ["x", "b"]}, None),
        ({"aud": "x"}, Reason.WRONG_AUDIENCE),
        ({"aud": "a b"}, Reason.WRONG_AUDIENCE),
        ({"aud": []}, Reason.WRONG_AUDIENCE),
        ({}, Reason.WRONG_AUDIENCE),
        ({"aud": None}, Reason.MALFORMED),
        ({"aud": ["a", 1]}, Reason.MALFORMED),
        ({"aud": {"a": 1}}, Reason.MALFORMED),
    ],
)
def test_audience(claims: dict[str, object], reason: Reason | None) -> None:
    if reason is None:
        check_audience(claims, frozenset({"a", "b"}))
    else:
        with pytest.raises(TokenError) as caught:
            check_audience(claims, frozenset({"a", "b"}))
        assert caught.value.reason is reason


def test_without_audiences_any_well_formed_audience_will_do() -> None:
    check_audience({}, frozenset())
    for found in ("x", ["x"], []):
        check_audience({"aud": found}, frozenset())
    with pytest.raises(TokenError):
        check_audience({"aud": 1}, frozenset())


@pytest.mark.parametrize(
    ("found", "wanted", "same"),
    [
        ("a", "a", True),
        ("a b", "a", False),
        (["a", "b"], "b", True),
        ([["b"]], "b", False),
        (1, 1, True),
        (1.0, 1, True),
        ("1", 1, False),
        (True, True, True),
        (True, 1, False),
        (1, True, False),
        ([1], True, False),
        ([0, False], False, True),
        (None, "a", False),
        ({"a": 1}, "a", False),
    ],
)
def test_a_required_claim_equals_or_holds_the_value(found: object, wanted: object, same: bool) -> None:
    assert has({"role": found}, "role", wanted) is same


@pytest.mark.parametrize(
    ("found", "wanted", "same"),
    [
        ("a b c", "b", True),
        ("a b c", "a b", True),
        ("abc", "b", False),
        ("", "a", False),
        ("a", "", False),
        ("1", 1, False),
        (["a", "b"], "b", True),
        (["a b"], "b", False),
    ],
)
@pytest.mark.parametrize("name", ["scope", "scp"])
def test_a_scope_is_a_list_with_spaces_between(name: str, found: object, wanted: object, same: bool) -> None:
    assert has({name: found}, name, wanted) is same


def test_a_claim_that_is_missing_is_no_claim_that_is_wanted() -> None:
    assert not has({}, "role", "a")
    assert not has({}, "scope", "a")


@pytest.mark.parametrize(
    ("found", "names"),
    [
        (["a", "b"], {"a", "b"}),
        ("a  b", {"a", "b"}),
        ("", set()),
        ([], set()),
        (["a", 1], set()),
        (None, set()),
        ({"a": 1}, set()),
    ],
)
def test_models_of_a_claim(found: object, names: set[str]) -> None:
    assert models({"models": found}, "models") == names


def test_a_token_that_lists_no_models_may_use_none() -> None:
    assert models({}, "models") == frozenset()


def test_subject() -> None:
    assert check_subject({"sub": "alice"}) == "alice"
    assert check_subject({}) == ""
    with pytest.raises(TokenError):
        check_subject({"sub": None})


NESTED: dict[str, object] = {
    "realm_access": {"roles": ["user", "admin"]},
    "resource_access": {"my.client": {"roles": ["r"]}, "my": {"other": 1}},
    "https://example.com/roles": ["x"],
    "a.b": "whole",
    "a": {"b": "inside", "c": None},
    "text": "no object",
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("realm_access.roles", ["user", "admin"]),
        ("resource_access.my.client.roles", ["r"]),
        ("resource_access.my.other", 1),
        ("https://example.com/roles", ["x"]),
        ("a.b", "whole"),
        ("a.c", None),
        ("a.c.d", None),
        ("text.x", None),
        ("nobody", None),
        ("realm_access.", None),
        (".", None),
    ],
)
def test_claims_inside_of_others(path: str, value: object) -> None:
    assert claim(NESTED, path) == value


def test_one_of_several_values_will_do() -> None:
    assert has(NESTED, "realm_access.roles", ("root", "admin"))
    assert not has(NESTED, "realm_access.roles", ("root", "Admin"))
    assert has({"o": {"scope": "a b"}}, "o.scope", "b")
    assert not has({"tenant": True}, "tenant", (1, "True"))
    assert models(NESTED, "realm_access.roles") == {"user", "admin"}
