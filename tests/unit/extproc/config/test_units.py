import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.config import units

GARBAGE = st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none(), st.lists(st.integers()))


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("200ms", 0.2),
        ("5s", 5.0),
        ("15m", 900.0),
        ("24h", 86400.0),
        ("1h30m", 5400.0),
        ("0.5s", 0.5),
        (5, 5.0),
        (0.25, 0.25),
        (0, 0.0),
    ],
)
def test_durations(written: object, seconds: float) -> None:
    assert units.duration(written) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("5", "5s"),
        ("5 s", "5s"),
        ("5S", "5s"),
        ("2 days", "48h"),
        ("1d", "24h"),
        ("3min", "3m"),
        ("10 seconds", "10s"),
        ("1hr", "1h"),
        ("1.5d", None),
        ("5 parsecs", None),
        ("soon", None),
        ("-1s", None),
        ("12:30:00", None),
        ("٣s", None),
        ("", None),
        (None, None),
        (True, None),
        (-1, None),
        (math.nan, None),
        (math.inf, None),
        (10**400, None),
        ([5], None),
        ({}, None),
    ],
)
def test_no_durations(written: object, meant: str | None) -> None:
    with pytest.raises(ValueError, match="must be a duration") as caught:
        units.duration(written)
    assert (f'did you mean "{meant}"?' in str(caught.value)) is (meant is not None)


@given(st.integers(0, 10**9).map(lambda count: count / 1000))
def test_a_duration_is_written_as_it_is_read(seconds: float) -> None:
    assert units.duration(units.format_duration(seconds)) == pytest.approx(seconds, rel=1e-12, abs=1e-9)


@pytest.mark.parametrize(
    ("seconds", "written"), [(0.2, "200ms"), (5, "5s"), (900, "15m"), (86400, "24h"), (0, "0s"), (0.0005, "0.0005s")]
)
def test_durations_are_written_short(seconds: float, written: str) -> None:
    assert units.format_duration(seconds) == written


@pytest.mark.parametrize(
    ("written", "count"), [(16777216, 16777216), ("16Mi", 16 << 20), ("64Ki", 64 << 10), ("1Gi", 1 << 30), ("512", 512)]
)
def test_sizes(written: object, count: int) -> None:
    assert units.size(written) == count


@pytest.mark.parametrize(
    ("written", "meant"),
    [("16MB", "16Mi"), ("16 M", "16Mi"), ("64k", "64Ki"), ("1gib", "1Gi"), ("big", None), (1.5, None), (True, None)],
)
def test_no_sizes(written: object, meant: str | None) -> None:
    with pytest.raises(ValueError, match="must be a number of bytes") as caught:
        units.size(written)
    assert (f'did you mean "{meant}"?' in str(caught.value)) is (meant is not None)


@given(st.integers(0, 1 << 40))
def test_a_size_is_written_as_it_is_read(count: int) -> None:
    assert units.size(units.format_size(count)) == count


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("1.2.3.4:8000", "1.2.3.4:8000"),
        ("[::1]:8000", "[::1]:8000"),
        ("[0:0:0:0:0:0:0:1]:8000", "[::1]:8000"),
        ("[2001:DB8::5]:1", "[2001:db8::5]:1"),
    ],
)
def test_pod_addresses(written: str, canonical: str) -> None:
    assert units.pod_address(written) == canonical


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("vllm-0.models:8000", "list it under endpoints.dns as {name: vllm-0.models, port: 8000}"),
        ("1.2.3.4", 'did you mean "1.2.3.4:8000"'),
        ("::1", r'did you mean "\[::1\]:8000"'),
        ("::1:8000:9", "must be host:port|has no port"),
        ("1.2.3.4:0", "port must be from 1"),
        ("1.2.3.4:65536", "port must be a number"),
        ("1.2.3.4:http", "port must be a number"),
        ("1.2.3.4:", "port must be a number"),
        ("[fe80::1%eth0]:80", "must be an IP address and a port"),
        ("http://1.2.3.4:80", "must be host:port|IP address"),
        ("0.0.0.0:80", "not the address of a pod"),
        ("224.0.0.1:80", "not the address of a pod"),
        ("", "must be host:port"),
        ("a b:80", "must be an IP address"),
    ],
)
def test_no_pod_addresses(written: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        units.pod_address(written)


@pytest.mark.parametrize(
    ("written", "canonical"), [("0.0.0.0", "0.0.0.0"), ("::", "::"), ("[::1]", "::1"), ("127.0.0.1", "127.0.0.1")]
)
def test_hosts(written: str, canonical: str) -> None:
    assert units.host(written) == canonical


def test_a_listener_takes_addresses_only() -> None:
    with pytest.raises(ValueError, match=r'did you mean "127\.0\.0\.1"'):
        units.host("localhost")
    with pytest.raises(ValueError, match=r"not the string \"gateway\"$"):
        units.host("gateway")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("localhost", True), ("LOCALHOST.", True), ("127.9.9.9", True), ("::1", True), ("10.0.0.1", False), ("a", False)],
)
def test_loopback(name: str, expected: bool) -> None:
    assert units.is_loopback(name) is expected


@pytest.mark.parametrize("name", ["vllm", "vllm.models.svc.cluster.local", "VLLM.models.", "_grpc._tcp.vllm"])
def test_dns_names(name: str) -> None:
    assert units.dns_name(name) == name.lower()


@pytest.mark.parametrize(
    "name", ["10.0.0.1", "::1", "[::1]", "", "-a", "a..b", "a b", "a/b", "a" * 64, "a." * 150, "ä.de"]
)
def test_no_dns_names(name: str) -> None:
    with pytest.raises(ValueError, match="must be a host name"):
        units.dns_name(name)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("unix:///run/a.sock", "unix:///run/a.sock"),
        ("127.0.0.1:9002", "127.0.0.1:9002"),
        ("[0::1]:0", "[::1]:0"),
        ("Sidecar:9002", "sidecar:9002"),
    ],
)
def test_transport_addresses(written: str, canonical: str) -> None:
    assert units.transport_address(written) == canonical


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("/run/a.sock", 'did you mean "unix:///run/a.sock"'),
        ("unix:/run/a.sock", 'did you mean "unix:///run/a.sock"'),
        ("unix://run/a.sock", 'did you mean "unix:///run/a.sock"'),
        ("unix:///" + "a" * 200, "longer than 107 bytes"),
        ("unix:///run/", "absolute path of a file"),
        ("9002", "must be host:port"),
        ("a b:9002", "must be unix:///absolute/path or host:port"),
    ],
)
def test_no_transport_addresses(written: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        units.transport_address(written)


def test_paths_are_absolute() -> None:
    assert units.absolute_path("/run/a") == "/run/a"
    assert units.socket_path("/" + "a" * 106) == "/" + "a" * 106
    with pytest.raises(ValueError, match='did you mean "/run/a"'):
        units.absolute_path("unix:///run/a")
    for text in ("run/a", "", "/run/", "/a\0b"):
        with pytest.raises(ValueError, match="absolute path of a file"):
            units.absolute_path(text)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        ("", "an empty string"),
        ("a\nb", 'the string "a\\u000ab"'),
        ("x" * 100, f'the string "{"x" * 59}…"'),
        (5, "the number 5"),
        (1.5, "the number 1.5"),
        ([], "a list"),
        ({}, "a mapping"),
    ],
)
def test_values_are_described_in_words(value: object, words: str) -> None:
    assert units.describe(value) == words


@given(GARBAGE)
def test_anything_can_be_described(value: object) -> None:
    assert units.describe(value).isprintable()


def test_numbers_too_long_to_print_are_described() -> None:
    assert "0x" in units.describe(10**5000)


@pytest.mark.parametrize(
    "parse", [units.pod_address, units.host, units.dns_name, units.transport_address, units.socket_path]
)
@given(text=st.one_of(st.text(), st.from_regex(r"[a-z0-9\[\]:./%-]*", fullmatch=True)))
def test_texts_are_read_or_refused(parse: Callable[[str], str], text: str) -> None:
    try:
        canonical = parse(text)
    except ValueError as error:
        assert str(error).isprintable()
    else:
        assert parse(canonical) == canonical


@pytest.mark.parametrize("text", ["http://collector:4318/v1/traces", "https://[::1]/x"])
def test_http_urls(text: str) -> None:
    assert units.http_url(text) == text


@pytest.mark.parametrize("text", ["", "collector:4318", "file:///x", "http://", "grpc://collector:4317"])
def test_no_http_urls(text: str) -> None:
    with pytest.raises(ValueError, match="must be an http:// or https:// URL"):
        units.http_url(text)
