from extproc.mutation import admission, destination, routing, with_length
from scheduler.types import Pod


def test_header_and_metadata_have_one_value() -> None:
    value = destination([Pod("10.0.0.1:8000"), Pod("[::1]:8000")])
    assert value == "10.0.0.1:8000,[::1]:8000"
    mutation = routing(value, (("x-user", "a"),), ("authorization",))
    assert mutation.destination == dict(mutation.set_headers)["x-gateway-destination-endpoint"] == value
    assert dict(mutation.set_headers)["x-user"] == "a"
    assert mutation.remove_headers == ("authorization",)
    assert routing(value, (("x-user", "a"),), ("authorization",)) is mutation


def test_names_that_clients_make_up_are_not_kept() -> None:
    usual, made_up = ("authorization", "x-prefiller-host-port"), ("x-llm-d-" + "x" * 60_000,)
    for names, kept in ((usual, True), (made_up, False)):
        for make in (lambda: routing("10.0.0.1:8000", (), names), lambda: admission((), names)):  # noqa: B023
            assert make() == make()
            assert (make() is make()) is kept
    assert admission((), usual).admitted
    assert not admission((), usual, False).admitted


def test_a_replaced_body_has_its_own_length() -> None:
    before = routing("10.0.0.1:8000", (("x-user", "a"),), ("authorization",), "large")
    after = with_length(before, 12)
    assert after.set_headers == (*before.set_headers, ("content-length", "12"))
    assert (after.remove_headers, after.destination, after.pool) == (("authorization",), "10.0.0.1:8000", "large")
