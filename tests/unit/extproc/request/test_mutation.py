from extproc.protocol.replies import Mutation
from extproc.request.mutation import admission, destination, with_header, without_header
from scheduler.types import Pod


def test_destination() -> None:
    assert destination([Pod("10.0.0.1:8000"), Pod("[::1]:8000")]) == "10.0.0.1:8000,[::1]:8000"


def test_names_that_clients_make_up_are_not_kept() -> None:
    usual, made_up = ("authorization", "x-prefiller-host-port"), ("x-llm-d-" + "x" * 60_000,)
    for names, kept in ((usual, True), (made_up, False)):
        assert admission((), names) == admission((), names)
        assert (admission((), names) is admission((), names)) is kept
    assert admission((), usual).admitted
    assert not admission((), usual, False).admitted


def test_a_replaced_body_has_its_own_length() -> None:
    before = Mutation((("x-user", "a"),), ("authorization",), "10.0.0.1:8000", "large")
    after = with_header(before, "content-length", "12")
    assert after.set_headers == (("x-user", "a"), ("content-length", "12"))
    assert (after.remove_headers, after.destination, after.pool) == (("authorization",), "10.0.0.1:8000", "large")
    assert without_header(after, "content-encoding").remove_headers == ("authorization", "content-encoding")
