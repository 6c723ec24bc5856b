import pytest
from support.busy import AT, HOSTILE, Busy

from extproc.admin.summary import summary
from extproc.outcome.outcome import Outcome
from extproc.telemetry.metrics import Metrics


async def test_an_idle_gateway_has_everything_at_zero() -> None:
    found = await Busy(pods=0).summary()
    assert set(found) == {
        "version", "uptime", "not_ready", "streams", "pods", "requests", "models", "refusals", "tokens", "counts",
        "means", "decisions", "discovery",
    }  # fmt: skip
    assert [found[key] for key in ("pods", "requests", "refusals", "decisions")] == [[], [], [], []]
    assert set(found["counts"].values()) == {0}
    assert found["means"] == {
        name: {"count": 0, "sum": 0} for name in ("decision", "prefix_match", "ttft", "tpot", "request")
    }


async def test_counts_are_added_up() -> None:
    gateway = Busy(pods=2)
    gateway.not_ready = "draining"
    gateway.metrics.opened()
    served = [gateway.request("m", f"r-{number}") for number in range(4)]
    served.append(gateway.request("n", "r-4"))
    gateway.request("n", "r-5", status=500)
    gateway.request("n", "r-6", ends=False)
    gateway.metrics.refused(503, "no_ready_pod")
    gateway.metrics.refused(503, "no_ready_pod")
    gateway.metrics.scrape_failed("timeout")
    gateway.metrics.scrape_failed("status")
    found = await gateway.summary()
    assert found["not_ready"] == "draining"
    assert found["streams"] == 1
    assert found["models"] == {"m": 4, "n": 2}
    good = {row["pod"]: row["count"] for row in found["requests"] if row["status"] == "200"}
    assert good == {address: served.count(address) for address in served}
    assert sum(row["count"] for row in found["requests"] if row["status"] == "500") == 1
    assert found["refusals"] == [{"status": "503", "reason": "no_ready_pod", "count": 2}]
    assert found["tokens"] == {"prompt": 1250, "cached": 250, "completion": 55}
    assert found["counts"]["scrape_failures"] == 2
    assert found["means"]["ttft"] == {"count": 5, "sum": pytest.approx(1.0)}
    assert found["means"]["decision"]["count"] == 7
    assert sum(row["in_flight"] for row in found["pods"]) == 1


async def test_pods_tell_how_much_of_their_prompts_they_held() -> None:
    gateway = Busy(pods=1)
    gateway.request()
    gateway.request()
    (row,) = (await gateway.summary())["pods"]
    assert row["prefix_match"] == 0.5  # nothing of the first, all of the second
    gateway.set_pods(2)
    assert [row["prefix_match"] for row in (await gateway.summary())["pods"]] == [0.5, None]


async def test_the_newest_decisions_come_with_it() -> None:
    gateway = Busy()
    for number in range(20):
        gateway.request(HOSTILE, f"r-{number}")
    decisions = (await gateway.summary())["decisions"]
    assert [row["request_id"] for row in decisions] == [f"r-{number}" for number in range(19, 7, -1)]
    assert decisions[0]["model"] == HOSTILE
    assert decisions[0]["time"] == AT


def test_names_of_buckets_do_not_count() -> None:
    metrics = Metrics(list)
    metrics.decided(0.5, None)
    found = summary(
        metrics.registry.collect(), version="1", uptime=0.0, not_ready="", pods=[], matches={}, decisions=[]
    )
    assert found["means"]["decision"] == {"count": 1, "sum": 0.5}


def test_first_bytes_of_answers_in_one_piece_do_not_count() -> None:
    metrics = Metrics(list)
    for streamed in (True, False):
        metrics.ended("m", "a", Outcome(status=200, ttft=0.5), 1.0, streamed=streamed)
    found = summary(
        metrics.registry.collect(), version="1", uptime=0.0, not_ready="", pods=[], matches={}, decisions=[]
    )
    assert found["means"]["ttft"] == {"count": 1, "sum": 0.5}
