from extproc.outcome import ledger as module
from extproc.outcome.ledger import PATIENCE, Ledger
from extproc.outcome.outcome import UNKNOWN, Outcome

FAILED = Outcome(status=503)


def test_the_request_ends_before_its_entry() -> None:
    ledger, got = Ledger(), list[Outcome]()
    ledger.expect("a", got.append, 0.0)
    assert (got, len(ledger)) == ([], 1)
    ledger.arrived("a", FAILED, 0.1)
    ledger.expire(100.0)
    assert (got, len(ledger)) == ([FAILED], 0)


def test_the_entry_comes_before_the_request_ends() -> None:
    ledger, got = Ledger(), list[Outcome]()
    ledger.arrived("a", FAILED, 0.0)
    ledger.expect("a", got.append, 0.1)
    assert (got, len(ledger)) == ([FAILED], 0)


def test_nothing_is_waited_for_for_ever() -> None:
    ledger, got = Ledger(), list[Outcome]()
    ledger.expect("a", got.append, 0.0)
    ledger.expect("b", got.append, 1.0)
    ledger.expire(PATIENCE)
    assert (got, len(ledger)) == ([UNKNOWN], 1)
    ledger.arrived("a", FAILED, PATIENCE)
    ledger.expire(2 * PATIENCE)
    assert (got, len(ledger)) == ([UNKNOWN, UNKNOWN], 0)
    ledger.expect("a", got.append, 2 * PATIENCE)
    assert len(got) == 2  # the entry was too early by too much


def test_an_entry_is_waited_for_two_seconds_and_no_longer() -> None:
    """Forty of Envoy's turns of 50 ms. Longer, and prompts are held for answers of which nothing will come."""
    ledger, got = Ledger(), list[Outcome]()
    ledger.expect("a", got.append, 10.0)
    ledger.arrived("b", FAILED, 10.0)
    ledger.expire(11.999)
    assert (got, len(ledger)) == ([], 1)
    ledger.expire(12.0)
    assert (got, len(ledger)) == ([UNKNOWN], 0)
    ledger.expect("b", got.append, 12.0)
    assert (got, len(ledger)) == ([UNKNOWN], 1)
    ledger.expire(14.0)
    assert (got, len(ledger)) == ([UNKNOWN, UNKNOWN], 0)


def test_what_will_not_come_any_more_is_given_up() -> None:
    ledger, got = Ledger(), list[Outcome]()
    ledger.expect("a", got.append, 0.0)
    ledger.give_up()
    assert (got, len(ledger)) == ([UNKNOWN], 0)


def test_memory_is_bounded() -> None:
    ledger, got = Ledger(), list[Outcome]()
    for number in range(module.MAX_WAITING + 1):
        ledger.expect(f"w{number}", got.append, 0.0)
        ledger.arrived(f"e{number}", FAILED, 0.0)
    assert (got, len(ledger)) == ([UNKNOWN], module.MAX_WAITING)
    ledger.expect("e0", got.append, 0.0)
    assert got[1:] == [UNKNOWN]  # the oldest entry was given up, and to wait for it the oldest request
