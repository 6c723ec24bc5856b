import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm
from support.signed_tokens import ALGORITHMS, SECRET, claims, jwk_set, jwks, keys, public_jwk, sign

from extproc.auth.encoding import base64url
from extproc.auth.keys import MAX_JWKS, MAX_KEYS, MAX_TRIES, JwksError, read_jwks, verify


def ignored(*entries: object) -> str:
    """Why the last of these is ignored."""
    found = read_jwks(json.dumps({"keys": entries}).encode())
    assert len(found.ignored) == 1
    return found.ignored[0].why


def test_the_good_keys_of_a_set_are_used_and_the_others_named() -> None:
    found = read_jwks(jwks())
    assert found.kids == ("rsa", "rsa-ps", "p256", "p384", "p521", "ed25519")
    assert len(found) == 6
    assert [(key.kid, key.why) for key in found.ignored] == [
        ("enc", "not for signatures (use)"),
        ("weak", "RSA key of 1024 bits"),
        ("k256", "unsupported key type 'EC', curve 'secp256k1'"),
        ("oct", "unsupported key type 'oct', curve None"),
    ]


def test_a_key_without_algorithm_is_for_all_of_its_type() -> None:
    found = read_jwks(jwks())
    assert all(found.fitting("rsa", f"{kind}{bits}") for kind in ("RS", "PS") for bits in (256, 384, 512))
    assert not any(found.fitting("rsa", name) for name in ("ES256", "EdDSA", "HS256", "none"))
    assert found.fitting("p384", "ES384")
    assert not found.fitting("p384", "ES256")


def test_a_key_with_an_algorithm_is_for_that_one() -> None:
    found = read_jwks(jwks())
    assert found.fitting("rsa-ps", "PS256")
    assert not found.fitting("rsa-ps", "RS256")
    assert found.knows("rsa-ps")
    assert not found.knows("enc")


def test_without_kid_every_fitting_key_is_tried_up_to_a_bound() -> None:
    assert len(read_jwks(jwks()).fitting(None, "PS256")) == 2
    assert len(read_jwks(jwks()).fitting(None, "RS256")) == 1
    assert read_jwks(jwks()).fitting(None, "HS256") == ()
    many = [public_jwk("p256", kid=f"k{number}") for number in range(MAX_TRIES + 5)]
    assert len(read_jwks(jwk_set(*many)).fitting(None, "ES256")) == MAX_TRIES


def test_a_key_without_a_name_may_be_the_one_that_a_token_names() -> None:
    unnamed = public_jwk("p256")
    del unnamed["kid"]
    found = read_jwks(jwk_set(unnamed, public_jwk("p384")))
    assert found.kids == (None, "p384")
    assert len(found.fitting("any", "ES256")) == 1
    assert len(found.fitting(None, "ES256")) == 1
    assert found.fitting("p384", "ES256") == ()


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"use": "enc"}, "not for signatures"),
        ({"use": None}, "not for signatures"),
        ({"use": ["sig"]}, "not for signatures"),
        ({"key_ops": ["sign"]}, "not for verifying"),
        ({"key_ops": []}, "not for verifying"),
        ({"key_ops": "verify"}, "not for verifying"),
        ({"d": "AQAB"}, "a private key"),
        ({"alg": "ES256"}, "does not fit"),
        ({"alg": "HS256"}, "does not fit"),
        ({"alg": "RSA-OAEP"}, "does not fit"),
        ({"alg": "none"}, "does not fit"),
        ({"alg": ["RS256"]}, "does not fit"),
        ({"kty": "rsa"}, "unsupported key type"),
        ({"kty": None}, "unsupported key type"),
        ({"kty": "oct", "k": SECRET}, "unsupported key type"),
        ({"kty": ["RSA"]}, "not a JWK"),
        ({"kid": 1}, "not a JWK"),
        ({"kid": ["rsa"]}, "not a JWK"),
        ({"n": 5}, "not a JWK"),
        ({"n": ""}, "not a valid key"),
        ({"n": "A"}, "not a valid key"),
        ({"n": "é"}, "not a valid key"),
        ({"e": "AQ"}, "not a valid key"),
        ({"e": "AAAA"}, "not a valid key"),
    ],
)
def test_a_key_that_does_not_fit_is_ignored(changed: dict[str, object], why: str) -> None:
    assert why in ignored(public_jwk("rsa", **changed))


def test_a_key_that_lacks_a_number_is_ignored() -> None:
    for kid, name in (("rsa", "n"), ("p256", "y"), ("ed25519", "x")):
        jwk = public_jwk(kid)
        del jwk[name]
        assert ignored(jwk) == "not a valid key"


def test_points_that_are_not_on_the_curve_are_ignored() -> None:
    assert ignored(public_jwk("p256", y=public_jwk("p256")["x"])) == "not a valid key"
    assert ignored(public_jwk("p256", crv="P-384")) == "not a valid key"
    assert ignored(public_jwk("ed25519", x="AAAA")) == "not a valid key"
    assert "unsupported" in ignored(public_jwk("ed25519", crv="X25519"))
    assert ignored(public_jwk("ed25519", crv="Ed448")) == "not a valid key"


def test_what_is_no_object_is_ignored() -> None:
    assert ignored("rsa") == ignored(None) == ignored([]) == "not an object"


def test_a_key_that_is_too_large_is_ignored() -> None:
    # The product of two primes would take minutes to make; any odd number has the form of one.
    large = rsa.RSAPublicNumbers(65537, (1 << 8192) + 1).public_key()
    assert ignored({**RSAAlgorithm.to_jwk(large, as_dict=True), "key_ops": ["verify"]}) == "RSA key of 8193 bits"


def test_a_key_that_is_a_little_too_small_is_ignored() -> None:
    small = rsa.generate_private_key(65537, 2040).public_key()
    assert ignored({**RSAAlgorithm.to_jwk(small, as_dict=True), "key_ops": ["verify"]}) == "RSA key of 2040 bits"


def test_of_keys_with_one_name_each_is_tried() -> None:
    """RFC 7517 section 4.5 has it that names "SHOULD" differ: sets that two services share do not always."""
    found = read_jwks(
        jwk_set(public_jwk("rsa"), public_jwk("enc", kid="rsa"), public_jwk("p256", kid="rsa"), public_jwk("rsa"))
    )
    assert [key.why for key in found.ignored] == ["duplicate"]
    assert found.fitting("rsa", "RS256") == (keys()["rsa"].public_key(), keys()["enc"].public_key())
    assert found.fitting("rsa", "ES256") == (keys()["p256"].public_key(),)


def test_of_many_keys_with_one_name_some_are_tried() -> None:
    many = [
        ALGORITHMS["ES256"].to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key(), as_dict=True)
        for _ in range(MAX_TRIES + 5)
    ]
    found = read_jwks(jwk_set(*[{**jwk, "kid": "x"} for jwk in many]))
    assert len(found) == MAX_TRIES + 5
    assert len(found.fitting("x", "ES256")) == MAX_TRIES


@pytest.mark.parametrize("alg", [None, "EdDSA", "Ed25519"])
def test_both_names_of_edwards_curves_are_one_algorithm(alg: str | None) -> None:
    found = read_jwks(jwk_set(public_jwk("ed25519", **({} if alg is None else {"alg": alg}))))
    for name in ("EdDSA", "Ed25519"):
        assert len(found.fitting("ed25519", name)) == 1
    assert found.fitting("ed25519", "Ed448") == ()


def test_the_larger_curve() -> None:
    key = ed448.Ed448PrivateKey.generate()
    found = read_jwks(jwk_set({**OKPAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": "k"}))
    for name in ("EdDSA", "Ed448"):
        (public,) = found.fitting("k", name)
        assert verify(name, public, b"text", key.sign(b"text"))
        assert not verify(name, public, b"text", key.sign(b"other"))
    assert found.fitting("k", "Ed25519") == ()


def test_a_byte_order_mark_is_no_part_of_a_set() -> None:
    assert len(read_jwks(b"\xef\xbb\xbf" + jwk_set(public_jwk("rsa")))) == 1


def test_one_key_for_two_algorithms_may_come_twice() -> None:
    found = read_jwks(jwk_set(public_jwk("rsa", alg="RS256"), public_jwk("rsa", alg="PS256")))
    assert found.ignored == ()
    assert found.fitting("rsa", "RS256") == found.fitting("rsa", "PS256")
    assert not found.fitting("rsa", "RS512")


def test_a_key_without_a_name_counts_once() -> None:
    unnamed = public_jwk("p256")
    del unnamed["kid"]
    found = read_jwks(jwk_set(unnamed, unnamed))
    assert [key.why for key in found.ignored] == ["duplicate"]
    assert len(found.fitting(None, "ES256")) == 1


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not a JSON object"),
        (b"<html>", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b'{"keys":[],"keys":[]}', "not a JSON object"),
        (b"{}", 'no list "keys"'),
        (b'{"keys":{}}', 'no list "keys"'),
        (jwks()[:-1], "not a JSON object"),
        (json.dumps({"keys": [{}] * (MAX_KEYS + 1)}).encode(), "more than 100 keys"),
        (b"{" + b" " * MAX_JWKS, "larger than"),
    ],
)
def test_what_is_no_key_set_is_an_error(data: bytes, why: str) -> None:
    with pytest.raises(JwksError, match=why):
        read_jwks(data)


def test_a_set_may_be_empty_and_of_the_largest_size() -> None:
    assert not read_jwks(b'{"keys":[]}')
    assert len(read_jwks(json.dumps({"keys": [{}] * MAX_KEYS}).encode()).ignored) == MAX_KEYS


@pytest.mark.parametrize("algorithm", ["RS256", "PS512", "ES256", "ES512", "EdDSA"])
def test_verify(algorithm: str) -> None:
    kid = {"R": "rsa", "P": "rsa"}.get(algorithm[0]) or {"ES256": "p256", "ES512": "p521", "EdDSA": "ed25519"}[
        algorithm
    ]
    signed, _, tail = sign(algorithm, kid, claims(0.0)).rpartition(".")
    (key,) = read_jwks(jwks()).fitting(kid, algorithm)
    assert verify(algorithm, key, signed.encode(), base64url(tail.encode()))
    assert not verify(algorithm, key, signed.encode() + b"x", base64url(tail.encode()))
    assert not verify(algorithm, key, signed.encode(), b"")


_numbers = st.sampled_from(["", "AQAB", "AA", "A", "_" * 342, "A" * 43, "é"]) | st.none() | st.integers()
_jwk = st.fixed_dictionaries(
    {"kty": st.sampled_from(["RSA", "EC", "OKP", "oct"])},
    optional={
        "crv": st.sampled_from(["P-256", "P-521", "Ed25519", "x"]),
        "kid": st.sampled_from(["a", "b"]) | st.none(),
        "alg": st.sampled_from(["RS256", "ES256", "EdDSA"]) | st.none(),
        **dict.fromkeys(("n", "e", "x", "y"), _numbers),
    },
)


@given(
    st.binary(max_size=40)
    | st.lists(_jwk | st.none(), max_size=3).map(lambda entries: json.dumps({"keys": entries}).encode())
)
def test_garbage_is_a_jwks_error_or_ignored(data: bytes) -> None:
    try:
        found = read_jwks(data)
    except JwksError:
        return
    assert len(found) <= MAX_KEYS
