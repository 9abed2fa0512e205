"""What Prometheus and Grafana are told to ask for is what the real HAProxy and the installed vLLM say; promtool:
docs/images.md."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from ruamel.yaml import YAML

from configs.read import read_environment
from tests.infra.conftest import RunningProxy
from tests.paths import ROOT
from tests.serve.conftest import free_ports

METRIC = re.compile(r"\b((?:haproxy_|vllm:)[a-z0-9_]+)")


def read(path: str) -> Any:
    return YAML(typ="safe").load((ROOT / path).read_text(encoding="utf8"))


def rules() -> list[dict[str, Any]]:
    return [rule for group in read("infra/prometheus/rules.yml")["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((ROOT / "infra/grafana/dashboards/tunegate.json").read_text())["panels"]
    return found


def asked() -> set[str]:
    expressions = [rule["expr"] for rule in rules()] + [
        target["expr"] for panel in panels() for target in panel["targets"]
    ]
    return {name for text in expressions for name in METRIC.findall(text)}


@pytest.mark.unit
def test_vllm_has_every_figure_that_is_asked_of_it() -> None:
    """By its own source: a counter is written with _total, a histogram with _bucket."""
    folder = ROOT / ".venv-serve/lib/python3.11/site-packages/vllm/v1/metrics"
    declared = {
        name
        for path in folder.glob("*.py")
        for name in re.findall(r'name="(vllm:[a-z_]+)"', path.read_text(encoding="utf8"))
    }
    named = {name for name in asked() if name.startswith("vllm:")}
    assert len(named) >= 7 and len(declared) > 20
    assert {
        name for name in named if name not in declared and re.sub("_(total|bucket)$", "", name) not in declared
    } == set()


@pytest.mark.integration
def test_haproxy_has_every_figure_that_is_asked_of_it_on_loopback_and_on_no_other_path(
    start_proxy: Callable[..., RunningProxy],
) -> None:
    (port,) = free_ports(1)
    proxy = start_proxy(metrics_port=port)
    assert proxy.ask().status_code == 200
    found = httpx.get(f"http://127.0.0.1:{port}/metrics")
    said = {line.split("{")[0].split(" ")[0] for line in found.text.splitlines() if line and not line.startswith("#")}
    named = {name for name in asked() if name.startswith("haproxy_")}
    assert len(named) >= 5 and named - said == set()
    assert {'proxy="router"', 'proxy="blue"', 'proxy="green"'} <= set(re.findall(r'proxy="\w+"', found.text))
    assert (
        httpx.get(f"http://127.0.0.1:{port}/").status_code == 404
        and httpx.post(f"http://127.0.0.1:{port}/metrics").status_code == 404
    )


@pytest.mark.unit
def test_prometheus_asks_where_the_environment_of_compose_listens() -> None:
    config = read_environment(str(ROOT / "configs/deploy/compose.yaml"))
    targets = [
        target
        for job in read("infra/prometheus/prometheus.yml")["scrape_configs"]
        for one in job["static_configs"]
        for target in one["targets"]
    ]
    assert targets == [f"127.0.0.1:{port}" for port in (config.router.metrics_port, *config.slot_ports)]


@pytest.mark.unit
def test_each_alert_says_what_to_look_at_and_whether_it_wakes_somebody() -> None:
    assert {rule["labels"]["severity"] for rule in rules()} == {"page", "warn"}
    assert all(rule["annotations"]["summary"] and rule["for"] for rule in rules())
    tested = {
        one["alertname"] for test in read("infra/prometheus/rules_test.yml")["tests"] for one in test["alert_rule_test"]
    }
    assert tested >= {"RouterDown", "NothingServes", "ServerErrors"}


@pytest.mark.unit
def test_the_dashboard_is_whole_and_finds_its_source() -> None:
    source = read("infra/grafana/provisioning/datasources/prometheus.yml")["datasources"][0]
    assert {panel["datasource"]["uid"] for panel in panels()} == {source["uid"]}
    assert len({panel["id"] for panel in panels()}) == len(panels()) == 10
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels()]
    assert len(set(places)) == len(places) and all(panel["title"] and panel["targets"] for panel in panels())
