import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.admin.address import admin_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9090", "127.0.0.1:9090"),
        ("http://127.0.0.1:9090", "127.0.0.1:9090"),
        ("http://127.0.0.1:9090/", "127.0.0.1:9090"),
        ("http://gateway.example:80/debug/endpoints", "gateway.example:80"),
        ("[::1]:9090", "[::1]:9090"),
        ("http://[::1]:9090/", "[::1]:9090"),
    ],
)
def test_what_people_write(text: str, address: str) -> None:
    assert admin_address(text) == address


@pytest.mark.parametrize(
    "text", ["", "localhost", "http://localhost/", "https://localhost:9090", "localhost:port", ":9090"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"host:port|[Pp]ort"):
        admin_address(text)


@given(st.text())
def test_anything_is_an_address_or_a_value_error(text: str) -> None:
    try:
        address = admin_address(text)
    except ValueError:
        return
    assert admin_address(address) == address
