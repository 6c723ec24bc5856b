from extproc.discovery.contact import REPEAT_AFTER, Contact, Reason


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


def test_before_the_first_answer_it_is_not_up_and_time_runs_from_the_start() -> None:
    clock = Clock()
    contact = Contact("dns a", clock)
    clock.now += 3
    assert contact.statistics() == {
        "source": "dns a", "up": False, "seconds_since_contact": 3.0, "reason": None, "error": "", "failures": {},
    }  # fmt: skip
    assert not contact.reached()
    assert contact.up


def test_a_failure_is_news_once() -> None:
    clock = Clock()
    contact = Contact("a", clock)
    contact.reached()
    assert contact.failed(Reason.TIMEOUT, "no answer in time")
    assert not contact.failed(Reason.TIMEOUT, "no answer in time")
    assert contact.failed(Reason.FORBIDDEN, "403 pods is forbidden")
    clock.now += 5
    row = contact.statistics()
    assert row["failures"] == {"timeout": 2, "forbidden": 1}
    assert (row["up"], row["reason"], row["error"], row["seconds_since_contact"]) == (
        False, "forbidden", "403 pods is forbidden", 5.0,
    )  # fmt: skip
    assert contact.reached()
    assert not contact.reached()
    assert contact.up
    assert contact.failed(Reason.FORBIDDEN, "403 pods is forbidden")


def test_numbers_that_differ_each_time_are_no_news_for_a_while() -> None:
    clock = Clock()
    contact = Contact("a", clock)
    assert contact.failed(Reason.CUT, "after 241 s")
    for seconds in range(300, 310):
        assert not contact.failed(Reason.CUT, f"after {seconds} s")
    assert contact.error == "after 309 s"
    clock.now += REPEAT_AFTER
    assert contact.failed(Reason.CUT, "after 12 s")
    assert contact.failed(Reason.CUT, "by the other side")


def test_a_reason_is_never_empty() -> None:
    contact = Contact("a")
    contact.failed(Reason.CUT, "")
    assert contact.error == "cut"


def test_what_lasts_needs_no_contact() -> None:
    clock = Clock()
    contact = Contact("static", clock, lasting=True)
    contact.reached()
    clock.now += 1000
    assert contact.statistics()["seconds_since_contact"] == 0


def test_a_sign_of_life_does_not_make_a_bad_answer_good() -> None:
    clock = Clock()
    contact = Contact("a", clock)
    contact.failed(Reason.NOT_FOUND, "there is no Service")
    clock.now += 10
    contact.alive()
    row = contact.statistics()
    assert (row["up"], row["seconds_since_contact"]) == (False, 0.0)


def test_the_end_of_a_long_connection_is_counted_and_that_is_all() -> None:
    contact = Contact("a")
    contact.reached()
    contact.missed(Reason.CUT)
    assert contact.up
    assert contact.statistics()["failures"] == {"cut": 1}
