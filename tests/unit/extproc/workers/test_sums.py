from prometheus_client.parser import text_string_to_metric_families

from extproc.workers.sums import Sums, restarts_page

PAGE = """\
# HELP infer_gateway_pod_in_flight Requests.
# TYPE infer_gateway_pod_in_flight gauge
infer_gateway_pod_in_flight{{pod="a:1"}} {in_flight}
# HELP infer_gateway_streams Streams.
# TYPE infer_gateway_streams gauge
infer_gateway_streams {streams}
# HELP infer_gateway_requests_total Requests.
# TYPE infer_gateway_requests_total counter
infer_gateway_requests_total{{model="m",pod="a:1"}} {requests}
# HELP infer_gateway_seconds Time.
# TYPE infer_gateway_seconds histogram
infer_gateway_seconds_bucket{{le="0.1"}} {requests}
infer_gateway_seconds_bucket{{le="+Inf"}} {requests}
infer_gateway_seconds_count {requests}
infer_gateway_seconds_sum 0.5
"""
EMPTY = """\
# HELP infer_gateway_pod_in_flight Requests.
# TYPE infer_gateway_pod_in_flight gauge
{pods}# HELP infer_gateway_requests_total Requests.
# TYPE infer_gateway_requests_total counter
"""


def page(*, requests: float = 0.0, in_flight: float = 0.0, streams: float = 0.0) -> str:
    return PAGE.format(requests=requests, in_flight=in_flight, streams=streams)


def samples(text: str) -> dict[str, float]:
    return {
        sample.name + "".join(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_counters_are_added_and_gauges_compared() -> None:
    text = Sums().page(
        {
            "0": ("1", page(requests=3, in_flight=5, streams=2)),
            "1": ("2", page(requests=4, in_flight=4, streams=1)),
        }
    )
    found = samples(text)
    assert found["infer_gateway_requests_totalma:1"] == 7
    assert found["infer_gateway_seconds_bucket0.1"] == 7
    assert found["infer_gateway_seconds_count"] == 7
    assert found["infer_gateway_seconds_sum"] == 1
    assert found["infer_gateway_pod_in_flighta:1"] == 5
    assert found["infer_gateway_streams"] == 3
    assert text.count("# TYPE infer_gateway_requests_total") == 1


def test_no_counter_falls_when_a_process_is_started_again() -> None:
    sums = Sums()
    assert samples(sums.page({"0": ("1", page(requests=3))}))["infer_gateway_requests_totalma:1"] == 3
    assert samples(sums.page({"0": ("1", page(requests=5))}))["infer_gateway_requests_totalma:1"] == 5
    assert samples(sums.page({"0": ("2", page(requests=1))}))["infer_gateway_requests_totalma:1"] == 6
    assert samples(sums.page({"0": ("3", page(requests=1))}))["infer_gateway_requests_totalma:1"] == 7
    # Also of a series that the new run does not have yet.
    new = EMPTY.format(pods='infer_gateway_pod_in_flight{pod="a:1"} 0.0\n')
    assert samples(sums.page({"0": ("4", new)}))["infer_gateway_requests_totalma:1"] == 7


def test_no_counter_falls_while_a_process_does_not_answer() -> None:
    def counted(**pages: tuple[str, str]) -> tuple[float, float, float]:
        found = samples(sums.page(pages))
        requests, streams = found["infer_gateway_requests_totalma:1"], found["infer_gateway_streams"]
        return requests, found["infer_gateway_seconds_bucket0.1"], streams

    sums = Sums()
    other = ("9", page(requests=2, streams=1))
    assert counted(a=("1", page(requests=3, streams=2)), b=other) == (5, 5, 3)
    assert counted(b=other) == counted(b=other) == (5, 5, 1)
    # It was slow, or is another run.
    assert counted(a=("1", page(requests=4)), b=other) == (6, 6, 1)
    assert counted(b=other) == (6, 6, 1)
    assert counted(a=("2", page(requests=1)), b=other) == (7, 7, 1)


def test_series_of_pods_that_left_go_while_a_process_does_not_answer() -> None:
    sums = Sums()
    sums.page({"0": ("1", page(requests=3)), "1": ("9", EMPTY.format(pods=""))})
    assert "a:1" not in sums.page({"1": ("9", EMPTY.format(pods=""))})


def test_a_model_may_have_any_name() -> None:
    name = "a\u2028b\x85c\x0b d"
    text = page(requests=3).replace('model="m"', f'model="{name}"')
    assert f'requests_total{{model="{name}",pod="a:1"}} 6.0\n' in Sums().page({"0": ("1", text), "1": ("2", text)})


def test_series_of_pods_that_left_do_not_pile_up() -> None:
    sums = Sums()
    sums.page({"0": ("1", page(requests=3))})
    assert "a:1" not in sums.page({"0": ("2", EMPTY.format(pods=""))})
    back = EMPTY.format(pods='infer_gateway_pod_in_flight{pod="a:1"} 0.0\n')
    assert "infer_gateway_requests_total{" not in sums.page({"0": ("2", back)})


def test_nothing() -> None:
    assert samples(Sums().page({})) == {}


def test_restarts() -> None:
    found = samples(restarts_page({"0": 2, "standby": 0}))
    assert found == {"infer_gateway_process_restarts_total0": 2, "infer_gateway_process_restarts_totalstandby": 0}
