from extproc.auth.base import Identity
from extproc.protocol.headers import Headers
from extproc.tenancy.tenant import client_address, tenant_of


def headers(forwarded: bytes | None) -> Headers:
    return Headers([] if forwarded is None else [("x-forwarded-for", forwarded)])


def test_a_token_names_its_subject_of_its_issuer() -> None:
    asked = headers(b"192.0.2.1")
    one, other, elsewhere = (
        tenant_of(Identity(subject, issuer, {}), asked) for subject, issuer in (("a", "i"), ("b", "i"), ("a", "j"))
    )
    assert len({one, other, elsewhere}) == 3
    # The address is not asked for then.
    assert tenant_of(Identity("a", "i", {}), headers(b"192.0.2.9")) == one


def test_without_a_subject_it_is_the_address_that_envoy_saw() -> None:
    asked = headers(b"10.0.0.1, 198.51.100.7,192.0.2.1")
    assert tenant_of(None, asked) == tenant_of(Identity("", "i", {}), asked) == "address 192.0.2.1"
    # What a client says of itself comes before that.
    assert client_address(headers(b"evil, 192.0.2.1")) == "192.0.2.1"
    assert client_address(headers(b"\xff\xfe")) == "\xff\xfe"
    assert client_address(headers(None)) == ""


def test_a_subject_cannot_pass_for_an_address() -> None:
    assert tenant_of(Identity("address 192.0.2.1", "", {}), headers(None)) != tenant_of(None, headers(b"192.0.2.1"))
