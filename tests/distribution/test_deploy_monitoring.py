"""Dashboard and alerts name only what is exported, and each alert has its runbook."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from extproc.auth.base import Reason
from extproc.discovery import contact
from extproc.errors import saturated
from extproc.outcome.outcome import Outcome
from extproc.protocol.events import TokenUsage
from extproc.telemetry.metrics import Metrics
from extproc.tenancy.bodies import Bodies
from extproc.workers.sums import restarts_page

ROOT = Path(__file__).parents[2]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/infer-gateway.json").read_text(encoding="utf-8"))
ALERTS: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "deploy/grafana/alerts.yaml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
OPERATIONS = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
#: What Prometheus itself adds.
TARGET_LABELS = frozenset({"job", "instance"})
TARGET_METRICS = {"up": TARGET_LABELS}


def exported() -> dict[str, frozenset[str]]:
    """Sample name → its labels, once everything that is counted has been counted."""
    row = {
        "address": "10.0.0.1:80", "ready": True, "in_flight": 1, "in_flight_tokens": 1, "waiting": 1, "running": 1,
        "kv_usage": 0.5, "scrape_age": 0.1, "resting_for": 0.0,
    }  # fmt: skip
    metrics = Metrics(lambda: [row], ["default"])
    metrics.opened()
    metrics.decided(0.001, 0.5)
    metrics.refused(429, "saturated")
    metrics.authenticated("ok")
    metrics.protocol_error()
    metrics.ended(
        "m",
        "a",
        Outcome(status=200, served="b", attempts=2, ttft=0.1, stream=1.0, usage=TokenUsage(9, 3, 9)),
        1,
        streamed=True,
    )
    metrics.plugin("p", "score")(0.001)
    metrics.plugin_fault("p", "score")
    metrics.plugin_slow("p", "score")
    metrics.scraped(0.01)
    metrics.scrape_failed("timeout")
    metrics.reloaded("applied")
    source = contact.Contact("file /pods.json")
    source.failed(contact.Reason.NOT_FOUND, "No such file or directory")
    metrics.watch_health(lambda: [("scrape", 1)], lambda: [{"pool": "default", **source.statistics()}], lambda: 0.0)
    metrics.watch_bodies(Bodies(1 << 20, 1 << 20))
    metrics.watch_sharing(lambda: defaultdict(float, up=1.0))
    metrics.watch_keys(lambda: [{"issuer": "i", "keys": 1, "usable": True, "fetches": 2, "failures": 1, "age": 3.0}])
    families = text_string_to_metric_families(metrics.exposition().decode() + restarts_page({"0": 1}))
    return {
        sample.name: frozenset(sample.labels) | TARGET_LABELS for family in families for sample in family.samples
    } | TARGET_METRICS


EXPORTED = exported()


class Used(NamedTuple):
    metric: str
    labels: frozenset[str]


_STRING = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'')
_SELECTOR = re.compile(r"([A-Za-z_:][\w:]*)\s*\{([^}]*)\}")
_GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_NAME = re.compile(r"(?<![\w.$])([A-Za-z_:][\w:]*)(?!\w)\s*(\(?)")
_KEYWORDS = frozenset({"and", "or", "unless", "bool", "offset"})


def used(expression: str) -> Iterator[Used]:
    """The metrics that an expression names; those of one expression share the labels that it groups by."""
    text = _STRING.sub('""', expression)
    grouped = {label.strip() for _, labels in _GROUPING.findall(text) for label in labels.split(",") if label.strip()}
    text = re.sub(r"\[[^\]]*\]", "", _GROUPING.sub(" ", text))
    for name, matchers in _SELECTOR.findall(text):
        yield Used(name, frozenset(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) | grouped)
    for name, call in _NAME.findall(_SELECTOR.sub(" ", text)):
        if not call and name not in _KEYWORDS:
            yield Used(name, frozenset(grouped))


def panels() -> list[dict[str, Any]]:
    return [inner for panel in DASHBOARD["panels"] for inner in (panel, *panel.get("panels", ()))]


EXPRESSIONS = {
    **{
        f"panel: {panel['title']} {one['refId']}": one["expr"] for panel in panels() for one in panel.get("targets", ())
    },
    **{f"alert: {rule['alert']}": rule["expr"] for rule in ALERTS},
}


def test_metrics_are_found_in_expressions() -> None:
    expression = 'sum by (le, x) (rate(a_bucket{b=~"c{d}e", f!="g"}[$__rate_interval])) / on (h) (i or vector(0)) > 1e3 unless j:k'
    groups = {"le", "x", "h"}
    assert list(used(expression)) == [
        Used("a_bucket", frozenset({"b", "f"} | groups)),
        Used("i", frozenset(groups)),
        Used("j:k", frozenset(groups)),
    ]


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_every_metric_and_label_that_is_named_is_exported(where: str) -> None:
    found = list(used(EXPRESSIONS[where]))
    assert found
    for metric, _ in found:
        assert metric in EXPORTED, metric
    # What is grouped by must be a label of one of them at least; what is matched, of the metric itself.
    known = frozenset().union(*(EXPORTED[metric] for metric, _ in found))
    assert all(labels <= known for _, labels in found), (found, known)


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_what_is_matched_is_a_label_of_the_metric(where: str) -> None:
    text = _STRING.sub('""', EXPRESSIONS[where])
    for metric, matchers in _SELECTOR.findall(text):
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) <= EXPORTED[metric], metric


def test_values_that_alerts_match_are_ones_that_occur() -> None:
    text = "\n".join(rule["expr"] for rule in ALERTS)
    results = {one for values in re.findall(r'result!?=~?"([\w|]+)"', text) for one in values.split("|")}
    assert results <= {"ok", *(reason.value for reason in Reason)}
    assert set(re.findall(r'status="(\w+)"', text)) == {str(saturated("").status), "unknown"}


def test_panels_are_told_apart() -> None:
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids))
    titles = [panel["title"] for panel in panels() if panel["type"] == "stat" or panel["type"] == "timeseries"]
    assert all(titles)


def test_panels_do_not_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_data_source_is_a_variable() -> None:
    variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    source = {"type": "prometheus", "uid": "${datasource}"}
    for panel in panels():
        if panel["type"] == "row":
            continue
        assert panel["datasource"] == source
        assert all(target["datasource"] == source for target in panel["targets"])
    for name, variable in variables.items():
        if variable["type"] == "query":
            assert variable["datasource"] == source
            metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"]).groups()
            assert label in EXPORTED[metric]
            assert any(f"${name}" in expression for expression in EXPRESSIONS.values())


def test_alerts_are_told_apart_and_say_what_they_are() -> None:
    names = [rule["alert"] for rule in ALERTS]
    assert len(names) == len(set(names))
    for rule in ALERTS:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"]["summary"]


def _anchors(markdown: str) -> list[str]:
    """Of the headings, as they are made where Markdown is shown: lower case, no punctuation, hyphens for blanks."""
    prose = re.sub(r"^```.*?^```", "", markdown, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", prose, flags=re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_every_alert_has_its_runbook() -> None:
    anchors = _anchors(OPERATIONS)
    assert len(anchors) == len(set(anchors))
    for rule in ALERTS:
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
        assert rule["alert"].lower() in anchors
    described = {line.removeprefix("### ") for line in OPERATIONS.splitlines() if line.startswith("### InferGateway")}
    assert described == {rule["alert"] for rule in ALERTS}


@pytest.mark.parametrize("alert", [rule["alert"] for rule in ALERTS])
def test_a_runbook_says_what_it_is_what_to_look_at_and_what_to_do(alert: str) -> None:
    section = OPERATIONS.split(f"### {alert}\n")[1].split("\n### ")[0]
    parts = ("**Symptom.**", "**It means**", "**Look at**", "**Do.**")
    places = [section.find(part) for part in parts]
    assert -1 not in places
    assert places == sorted(places)


def test_links_and_metrics_of_the_operations_page_lead_somewhere() -> None:
    anchors = set(_anchors(OPERATIONS))
    assert set(re.findall(r"\]\(#([\w-]+)\)", OPERATIONS)) <= anchors
    for path in re.findall(r"(?:deploy|docs)/(?!infer-gateway )[\w./-]*[\w/]", OPERATIONS):
        assert (ROOT / path).exists(), path
    families = {re.sub(r"_(total|bucket|sum|count|created)$", "", name) for name in EXPORTED}
    for name in re.findall(r"infer_gateway_\w+", OPERATIONS):
        assert re.sub(r"_(total|bucket)$", "", name) in families, name


def test_autoscaling_on_requests_in_flight_names_what_is_exported() -> None:
    overlay = yaml.safe_load((ROOT / "deploy/kubernetes/in-flight/kustomization.yaml").read_text(encoding="utf-8"))
    ((added,),) = [yaml.safe_load(patch["patch"]) for patch in overlay["patches"]]
    assert added["value"]["pods"]["metric"]["name"] in EXPORTED
    chart = (ROOT / "deploy/helm/infer-gateway/templates/horizontalpodautoscaler.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"metric: {name: (\w+)}", chart)) <= set(EXPORTED)
