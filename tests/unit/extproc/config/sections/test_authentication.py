import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.auth.base import ALGORITHMS
from extproc.config.sections import authentication
from extproc.protocol import headers


@pytest.mark.parametrize(
    "uri",
    ["https://idp.example.com/jwks", "http://127.0.0.1:8080/jwks", "file:///etc/keys/jwks.json", "https://[::1]/j"],
)
def test_uris(uri: str) -> None:
    assert authentication.jwks_uri(uri) == uri


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("", "must not be empty; to run without authentication, leave out `auth`"),
        ("example.com/jwks", "must begin with https://"),
        ("ftp://example.com/jwks", "must begin with https://"),
        ("https:///jwks", "must name a host"),
        ("file://host/jwks", "file:///absolute/path"),
        ("https://user:secret@example.com/", "must not hold credentials"),
        ("https://example.com:port/", "is no such URI"),
        ("https://[::1/", "is no such URI"),
        ("https://example.com/ jwks", "spaces or control characters"),
        ("https://example.com/\n", "spaces or control characters"),
    ],
)
def test_no_uris(uri: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        authentication.jwks_uri(uri)


@given(st.text())
def test_any_text_is_a_uri_or_is_refused(text: str) -> None:
    for uri in (text, f"https://{text}"):
        try:
            read = authentication.jwks_uri(uri)
        except ValueError:
            continue
        assert read == uri
        assert authentication.is_exposed(uri) is (uri[:5].lower() == "http:" and "localhost" not in uri)


@pytest.mark.parametrize(
    ("uri", "exposed"),
    [
        ("http://idp.example.com/jwks", True),
        ("http://10.0.0.1/jwks", True),
        ("http://localhost:1/jwks", False),
        ("http://127.0.0.1/jwks", False),
        ("http://[::1]/jwks", False),
        ("https://idp.example.com/jwks", False),
        ("file:///jwks", False),
        ("http:", True),
    ],
)
def test_keys_in_plain_sight(uri: str, exposed: bool) -> None:
    assert authentication.is_exposed(uri) is exposed


@pytest.mark.parametrize("name", ALGORITHMS)
def test_algorithms(name: str) -> None:
    assert authentication.algorithm(name) == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("HS256", "is never accepted: only RS256, "),
        ("none", "is never accepted"),
        ("None", "is never accepted"),
        ("rs512", 'did you mean "RS512"'),
        ("XYZ", "known: RS256"),
        ("", "known: RS256"),
    ],
)
def test_no_algorithms(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        authentication.algorithm(name)


@pytest.mark.parametrize("name", ["x-user-id", "X-Tenant", "user"])
def test_headers_for_identities(name: str) -> None:
    assert authentication.identity_header(name) == name


@pytest.mark.parametrize(
    "name",
    [
        headers.AUTHORIZATION, headers.DESTINATION, headers.SERVED, headers.SUBSET, headers.REQUEST_ID,
        "Host", "Content-Length", "transfer-encoding", "X-Envoy-Retry-On", "x-gateway-destination-endpoint-new",
    ],
)  # fmt: skip
def test_headers_that_steer_are_reserved(name: str) -> None:
    with pytest.raises(ValueError, match="reserved; take one of your own"):
        authentication.identity_header(name)


@pytest.mark.parametrize("name", ["", ":path", "x user", "x\nuser", "x-üser", "x:y"])
def test_no_headers(name: str) -> None:
    with pytest.raises(ValueError, match="must be the name of a header"):
        authentication.identity_header(name)


def test_names_are_kept_in_lower_case() -> None:
    assert authentication.lower_names({"X-User": "sub"}) == {"x-user": "sub"}
    with pytest.raises(ValueError, match="names one header twice"):
        authentication.lower_names({"X-User": "sub", "x-user": "email"})
