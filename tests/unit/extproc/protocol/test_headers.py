import itertools

from hypothesis import given
from hypothesis import strategies as st

from extproc.protocol.headers import DESTINATION, Headers


def test_the_first_of_equal_names_counts() -> None:
    headers = Headers(iter([("a", b"1"), ("b", b"2"), ("a", b"3")]))
    assert (headers.get("a"), headers.raw("b"), headers.count("a")) == ("1", b"2", 2)
    assert list(headers) == [("a", b"1"), ("b", b"2"), ("a", b"3")]
    assert len(headers) == 3


def test_what_is_not_there() -> None:
    headers = Headers([("a", b"1")])
    assert headers.raw("x") is None
    assert headers.get("x") == ""
    assert headers.get("x", "-") == "-"
    assert headers.count("x") == 0


def test_cookies() -> None:
    headers = Headers(
        [("cookie", b"a=1; sid=x=y ;SID=other; flag; b= 2"), ("x-cookie", b"c=0"), ("cookie", b"c=3;a=9;d=\xe9")]
    )
    assert [headers.cookie(name) for name in "abcd"] == ["1", "2", "3", "\xe9"]
    assert headers.cookie("sid") == "x=y"
    assert headers.cookie("SID") == "other"
    assert [headers.cookie(name) for name in ("flag", "e", "", "\u20ac")] == [None] * 4


@given(st.text("ab=; \t", max_size=12), st.text("ab=;", max_size=3))
def test_any_text_may_be_a_cookie(value: str, name: str) -> None:
    assert isinstance(Headers([("cookie", value.encode())]).cookie(name), str | None)


def test_any_bytes_are_text() -> None:
    assert Headers([("a", bytes(range(256)))]).get("a").encode("latin-1") == bytes(range(256))


def test_control_headers_are_found_under_both_their_names() -> None:
    names = [
        "host", "x-gateway-inference-fairness-id", "x-llm-d-inference-objective", "x-gateway-debug", "x-request-id",
        "x-gateway-destination-endpoint", "x-gateway-destination-endpoint-subset", "x-llm-d-model-name-rewrite",
        "x-prefiller-host-port", "x-prefiller-host-port", "x-slo-ttft-ms", "x-user",
    ]  # fmt: skip
    headers = Headers([(name, b"1") for name in names])
    assert headers.control() == (
        "x-gateway-inference-fairness-id", "x-llm-d-inference-objective", "x-gateway-destination-endpoint-subset",
        "x-llm-d-model-name-rewrite", "x-prefiller-host-port", "x-slo-ttft-ms",
    )  # fmt: skip
    assert headers.control({"x-user"})[-1] == "x-user"
    assert Headers([("a", b"")]).control() == ()


def test_control_headers_are_found_in_every_spelling() -> None:
    for name in (DESTINATION, "x-llm-d-inference-objective", "x-prefiller-host-port", "x-user-id"):
        for spelled in itertools.product(*["-_" if char == "-" else char for char in name]):
            text = "".join(spelled)
            found = Headers([("session_id", b""), (text, b"1")]).control({"x-user-id"})
            assert found == (() if text == DESTINATION else (text,))
