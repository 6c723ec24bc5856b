from extproc.mutation import destination, routing
from scheduler.types import Pod


def test_header_and_metadata_have_one_value() -> None:
    value = destination([Pod("10.0.0.1:8000"), Pod("[::1]:8000")])
    assert value == "10.0.0.1:8000,[::1]:8000"
    mutation = routing(value, (("x-user", "a"),), ("authorization",))
    assert mutation.destination == dict(mutation.set_headers)["x-gateway-destination-endpoint"] == value
    assert dict(mutation.set_headers)["x-user"] == "a"
    assert mutation.remove_headers == ("authorization",)
    assert routing(value, (("x-user", "a"),), ("authorization",)) is mutation
