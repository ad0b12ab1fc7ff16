"""Metrics, dashboard, alerts and runbooks name the same things, and PromQL's grammar takes the expressions."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from shoppable.runtime import metrics

ROOT = Path(__file__).parents[2]
OBSERVABILITY = ROOT / "deploy" / "observability"
CHART_FILES = ROOT / "deploy" / "helm" / "shoppable" / "files"
DASHBOARD = OBSERVABILITY / "grafana" / "dashboards" / "shoppable.json"
ALERTS = OBSERVABILITY / "prometheus" / "alerts.yaml"
# Of the Prometheus client, of Triton and of Prometheus itself; and the labels that scraping or they add.
OTHERS = {
    "process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "up",
    "nv_inference_pending_request_count", "nv_gpu_utilization",
}  # fmt: skip
THEIR_LABELS = {"app", "instance", "model", "gpu_uuid", "le"}
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def in_code() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return type and labels of each metric, by the name that the table has."""
    found = {}
    for value in vars(metrics).values():
        if isinstance(value, MetricWrapperBase):
            (family,) = value.describe()
            name = family.name + ("_total" if family.type == "counter" else "")
            found[name] = (family.type, tuple(value._labelnames))
    return found


def in_table() -> dict[str, tuple[str, tuple[str, ...]]]:
    text = (OBSERVABILITY / "README.md").read_text()
    rows = re.findall(r"^\| `(shoppable_\w+)` \| (\w+) \| ([\w, ]*) ?\| .+ \|$", text, re.MULTILINE)
    return {name: (kind, tuple(filter(None, re.split(r",? +", labels)))) for name, kind, labels in rows}


def test_the_table_has_each_metric_of_the_code_and_no_others():
    assert in_table() == in_code()


def series() -> dict[str, set[str]]:
    """Return the names that queries may use, with the labels of each."""
    found = {name: set(THEIR_LABELS) for name in OTHERS}
    for name, (kind, labels) in in_code().items():
        for suffix in SUFFIXES[kind]:
            found[name.removesuffix("_total") + suffix] = {*labels, *THEIR_LABELS}
    return found


def dashboard_queries() -> Iterator[tuple[str, str]]:
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"].replace("$__rate_interval", "5m")


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


QUERIES = [*dashboard_queries(), *((rule["alert"], rule["expr"]) for rule in rules())]


@pytest.mark.parametrize(("where", "query"), QUERIES, ids=lambda value: value[:40])
def test_a_query_is_promql_and_asks_for_what_there_is(where: str, query: str):
    promql_parser.parse(query)
    plain = re.sub(r'"[^"]*"', '""', query)
    known = series()
    used = set(re.findall(r"\b((?:shoppable|nv|process)_\w+|up)\b", plain))
    assert used, where
    assert used <= known.keys()
    labels = set().union(*(known[name] for name in used))
    asked = {word for group in re.findall(r"by \(([^)]*)\)", plain) for word in re.split(r",\s*", group)}
    asked |= set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)\s*\"", plain))
    assert asked <= labels


def test_every_metric_of_ours_is_on_the_dashboard():
    shown = " ".join(query for _, query in dashboard_queries())
    assert [name for name in in_code() if name.removesuffix("_total") not in shown] == []


def test_the_dashboard_is_whole():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert panel["type"] == "row" or panel["targets"]


def test_every_alert_has_its_runbook_and_says_how_bad_it_is():
    headings = re.findall(r"^## (\w+)$", (OBSERVABILITY / "runbooks.md").read_text(), re.MULTILINE)
    assert headings == [rule["alert"] for rule in rules()]
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]
        assert re.fullmatch(r"\d+[mh]", rule["for"])


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("needs promtool")
    return subprocess.run([program, "check", *arguments], capture_output=True, text=True, check=False)


def test_promtool_takes_the_alerts():
    done = promtool("rules", str(ALERTS))
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_takes_the_configuration_that_loads_the_alerts(tmp_path: Path):
    text = (ALERTS.parent / "prometheus.yaml").read_text()
    assert "/etc/prometheus/alerts.yaml" in text
    (tmp_path / "prometheus.yaml").write_text(text.replace("/etc/prometheus/alerts.yaml", str(ALERTS)))
    done = promtool("config", str(tmp_path / "prometheus.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("source", [ALERTS, DASHBOARD], ids=lambda path: path.name)
def test_the_chart_ships_the_same(source: Path):
    assert (CHART_FILES / source.name).read_text() == source.read_text()


def test_the_adapter_gives_the_autoscalers_their_metrics():
    adapter = yaml.safe_load((OBSERVABILITY / "prometheus" / "adapter.yaml").read_text())
    given = {rule["name"]["as"] for rule in adapter["rules"]["custom"]}
    values = yaml.safe_load((ROOT / "deploy" / "helm" / "shoppable" / "values.yaml").read_text())
    scaled = [*values["services"].values(), values["triton"]]
    wanted = {metric["name"] for item in scaled for metric in item["autoscaling"]["metrics"] if "name" in metric}
    assert given == wanted
    assert wanted <= series().keys()
