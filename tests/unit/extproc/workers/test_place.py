import pytest

from extproc.config import TransportConfig
from extproc.errors import GatewayError
from extproc.workers.place import place_of, places


def transport(**values: object) -> TransportConfig:
    return TransportConfig.model_validate({"address": "unix:///run/gateway/extproc.sock", **values})


def test_one_that_is_alone() -> None:
    assert [(place.name, place.address) for place in places(transport())] == [("0", "unix:///run/gateway/extproc.sock")]


def test_each_has_sockets_of_its_own() -> None:
    found = places(transport(workers=2, standby=True))
    assert [place.address for place in found] == [
        "unix:///run/gateway/extproc.sock",
        "unix:///run/gateway/extproc-1.sock",
        "unix:///run/gateway/extproc-standby.sock",
    ]
    assert [place.stands_by for place in found] == [False, False, True]
    paths = [path for place in found for path in (place.admin_socket, place.peer_socket)]
    assert len(set(paths)) == 6
    assert all(path.startswith("/run/gateway/.") for path in paths)
    assert {place.lead_file for place in found} == {"/run/gateway/.lead"}


def test_by_name() -> None:
    assert place_of(transport(), None) is None
    place = place_of(transport(standby=True), "standby")
    assert place is not None
    assert place.stands_by
    with pytest.raises(GatewayError, match="no process '7'"):
        place_of(transport(), "7")
