from datetime import UTC
from io import StringIO
from math import nan

import pytest
from rich.console import Console
from support.busy import HOSTILE, Busy

from extproc.admin.top import show
from extproc.admin.top.frame import frame


async def shown(gateway: Busy, *, width: int = 160, height: int = 60, away: str = "") -> str:
    found = await gateway.summary()
    out = StringIO()
    console = Console(file=out, width=width, force_terminal=False)
    console.print(show.render(frame(found, found, 1.0), "127.0.0.1:9090", width, height, away, UTC))
    return out.getvalue()


async def test_everything_is_there() -> None:
    gateway = Busy(pods=2)
    for number in range(3):
        gateway.request("a-model", f"req-{number}")
    gateway.request(status=503)
    gateway.metrics.refused(401, "no_token")
    text = await shown(gateway)
    for piece in (
        "127.0.0.1:9090  ready  up", "2 of 2 pods", "0 in flight", "requests/s", "prefix match", "first token 200 ms",
        "200 0.0/s", "503 0.0/s", "refused 401 no_token 0.0/s", "model-1", "model-2", "31 %", "100 ms", "a-model",
        "req-2", "22:13:20", "least-request", "least-cost", "total",
    ):  # fmt: skip
        assert piece in text, piece
    assert "decision 200 µs" in text


async def test_pools_and_other_names_are_shown_where_there_are_some() -> None:
    gateway = Busy(pods=2)
    found = await gateway.summary()
    found["pods"][1]["pool"] = "small"
    gateway.request("asked")
    found["decisions"] = [{**row, "rewritten_model": "org/m"} for row in gateway.decisions.rows(1)]
    out = StringIO()
    Console(file=out, width=160).print(show.render(frame(found, found, 1.0), "a", 160, 60, "", UTC))
    for piece in ("default/model-1", "small/model-2", "asked → org/m"):
        assert piece in out.getvalue()


async def test_no_pods_and_no_requests() -> None:
    gateway = Busy(pods=0)
    gateway.not_ready = "endpoints are not known yet"
    text = await shown(gateway)
    assert "endpoints are not known yet" in text
    assert "no pods yet" in text
    assert "no request has ended yet" in text


async def test_what_clients_write_does_not_reach_the_terminal_as_it_is() -> None:
    gateway = Busy()
    gateway.request(HOSTILE, "[/red][bold]\x1b]0;title\x07:smile:", status=200)
    text = await shown(gateway)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\u202e" not in text
    assert "[/red][bold]" in text
    assert "<img src=x" in text


async def test_trouble_is_said() -> None:
    gateway = Busy()
    address = gateway.rows()[1]["address"]
    gateway.store.observe_failure(address, 100.0, "connection refused")
    gateway.metrics.scrape_failed("refused")
    found = await gateway.summary()
    before = found | {"counts": dict.fromkeys(found["counts"], 0)}
    out = StringIO()
    Console(file=out, width=160).print(show.render(frame(before, found, 1.0), "x:1", 160, 50, "no answer"))
    assert "no metrics: connection refused" in out.getvalue()
    assert "scrape failures +1" in out.getvalue()
    assert "no answer; trying again" in out.getvalue()


async def test_a_source_of_pods_that_is_away_is_said_beside_ready() -> None:
    found = await Busy().summary()
    found["discovery"] = [{"source": "dns a", "error": ""}, {"source": "dns b", "error": "no such name\x1b"}]
    out = StringIO()
    Console(file=out, width=160).print(show.render(frame(found, found, 1.0), "x:1", 160, 50, "", UTC))
    assert "ready; dns b: no such name\\u001b  up" in out.getvalue()
    assert "dns a" not in out.getvalue()


async def test_costs_are_shown_where_decisions_have_one() -> None:
    gateway = Busy()
    gateway.request(request_id="dear")
    gateway.request(request_id="unknown")
    found = await gateway.summary()
    unknown, dear = found["decisions"]
    best = dear["candidates"][0] | {"cost": {"words": "1.5 s to compute", "seconds": 1.5}}
    rest = {name: value for name, value in unknown["candidates"][0].items() if name != "cost"}
    found["decisions"] = [unknown | {"candidates": [rest]}, dear | {"candidates": [best]}]
    for width, ends in ((160, {"unknown": "–", "dear": "1.5 s to compute"}), (119, {"unknown": "–", "dear": "1.5 s"})):
        out = StringIO()
        Console(file=out, width=width).print(show.render(frame(found, found, 1.0), "x:1", width, 50, "", UTC))
        for request_id, end in ends.items():
            (line,) = [line for line in out.getvalue().splitlines() if request_id in line]
            assert line.rstrip().endswith(end), line


@pytest.mark.parametrize(("width", "height"), [(80, 24), (160, 24), (160, 50), (250, 100)])
async def test_two_hundred_pods_fit_on_the_screen(width: int, height: int) -> None:
    gateway = Busy(pods=200)
    for number in range(30):
        gateway.request("m", f"r-{number}", ends=False)
    busy = gateway.request("m", "last", ends=False)
    gateway.store.observe_failure("10.0.0.200:8000", 100.0, "connection refused")
    text = await shown(gateway, width=width, height=height)
    lines = text.splitlines()
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert "200 of 200 pods" in text
    assert "31 in flight" in " ".join(text.split())
    assert " more" in text
    assert "model-200" in text  # the one with the worry
    assert next(row["name"] for row in gateway.rows() if row["address"] == busy)[:7] in text
    assert "last" in text


def test_before_the_first_answer() -> None:
    assert "asking" in str(show.waiting("h:1", ""))
    assert "refused\\u001b" in str(show.waiting("h:1", "refused\x1b"))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"), (nan, "–"), (0.0, "0 µs"), (217e-6, "217 µs"), (0.0034, "3.4 ms"), (0.15, "150 ms"), (1.25, "1.2 s"),
        (33.0, "33 s"), (600.0, "10 min"), (90_000.0, "25 h"),
    ],
)  # fmt: skip
def test_durations(seconds: float | None, text: str) -> None:
    assert show.duration(seconds) == text


def test_numbers() -> None:
    assert [show.number(value) for value in (None, nan, 0, 12345.6)] == ["–", "–", "0", "12,346"]
    assert [show.rate(value) for value in (nan, 0.25, 9.96, 12345.0)] == ["–", "0.2", "10.0", "12,345"]
    assert [show.percent(value) for value in (None, nan, 0.5, 1.0)] == ["–", "–", "50 %", "100 %"]
