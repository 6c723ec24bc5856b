from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from extproc.discovery.dns.hosts import read_hosts


def test_a_hosts_file() -> None:
    text = """
# comment
127.0.0.1\tlocalhost localhost.localdomain # again
::1 localhost ip6-localhost
fe80::1%lo0 localhost
10.0.0.1 Models.Example.  models
nonsense here
10.0.0.2
#10.0.0.3 models
10.0.0.4 models
"""
    found = {name: {str(ip) for ip in ips} for name, ips in read_hosts(text).items()}
    assert found == {
        "localhost": {"127.0.0.1", "::1"},
        "localhost.localdomain": {"127.0.0.1"},
        "ip6-localhost": {"::1"},
        "models.example": {"10.0.0.1"},
        "models": {"10.0.0.1", "10.0.0.4"},
    }


@given(st.text())
def test_anything_can_be_read(text: str) -> None:
    read_hosts(text)
    assert read_hosts(f"{text}\n10.0.0.1 last")["last"] >= {ip_address("10.0.0.1")}
