from ipaddress import ip_address

import pytest

from extproc.discovery.addresses import forbidden, join, normal, order, usable


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.1:80", "10.0.0.1:80"),
        ("10.0.0.1:00080", "10.0.0.1:80"),
        ("[::1]:65535", "[::1]:65535"),
        ("[FD00:0::01]:1", "[fd00::1]:1"),
    ],
)
def test_one_spelling(text: str, address: str) -> None:
    assert normal(text) == address
    assert normal(address) == address


@pytest.mark.parametrize(
    "text",
    ["", ":", "10.0.0.1", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:65536", "10.0.0.1:x", "10.0.0.1:²", "10.0.0.1:-1"]
    + ["::1:80", "[10.0.0.1]:80", "[::1:80", "host:80", "[fe80::1%eth0]:80", "10.0.0.1:1000000", "10.0.0.1: 80"],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="must be an IP address and a port"):
        normal(text)


def test_order_is_that_of_numbers() -> None:
    every = [("::1", 1), ("10.0.0.10", 1), ("10.0.0.9", 10), ("10.0.0.9", 9)]
    pairs = sorted(((ip_address(ip), port) for ip, port in every), key=order)
    assert [join(*one) for one in pairs] == ["10.0.0.9:9", "10.0.0.9:10", "10.0.0.10:1", "[::1]:1"]


def test_the_usable_one() -> None:
    assert str(usable(["fd00::1", "10.0.0.2", "10.0.0.1"])) == "10.0.0.2"
    assert str(usable(["", "fe80::1%eth0", "0.0.0.0", "fd00::1"])) == "fd00::1"
    assert usable(["x"]) is usable([]) is None


@pytest.mark.parametrize(
    ("ip", "never", "local"),
    [
        ("0.0.0.0", True, False),
        ("::", True, False),
        ("::ffff:0.0.0.0", True, False),
        ("224.0.0.1", True, False),
        ("ff02::1", True, False),
        ("255.255.255.255", True, False),
        ("127.0.0.1", False, True),
        ("127.8.8.8", False, True),
        ("::1", False, True),
        ("::ffff:127.0.0.1", False, True),
        ("169.254.169.254", False, True),
        ("fe80::1", False, True),
        ("::ffff:169.254.169.254", False, True),
        ("10.0.0.1", False, False),
        ("fd00::1", False, False),
        ("203.0.113.9", False, False),
    ],
)
def test_where_no_pod_can_be(ip: str, never: bool, local: bool) -> None:
    assert bool(forbidden(ip_address(ip))) is never
    assert bool(forbidden(ip_address(ip), local=False)) is (never or local)
    assert (usable([ip]) is None) is never
