"""What Prometheus and Grafana are told to ask for is what the real HAProxy, the agent and the installed vLLM say.

promtool and amtool are asked where they are on the PATH (apt: prometheus, prometheus-alertmanager).
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from ruamel.yaml import YAML

from configs.environment.config import DeployConfig
from configs.read import read_environment
from serve.exporter.exporter import Exporter
from serve.exporter.figures import Turn
from serve.exporter.targets import targets_of
from serve.plan.action import End
from serve.plan.observe import observe
from serve.plan.situation import Situation
from serve.record.environment import Environment, locked
from serve.record.state import State
from tests.infra.conftest import RunningProxy
from tests.paths import PACKAGES, ROOT
from tests.serve.conftest import free_ports
from tests.support.certificates import write_certificate

METRIC = re.compile(r"\b((?:haproxy_|tunegate_|vllm:)[a-z0-9_]+)")
SELECTOR = re.compile(r"(?:haproxy_|tunegate_|vllm:|\bup)[a-z0-9_]*(?:\{([^}]*)\})?")
RELEASE = "calls@sha256:" + "1" * 64
MONITORING = ROOT / "infra/prometheus"


def read(path: str) -> Any:
    return YAML(typ="safe").load((ROOT / path).read_text(encoding="utf8"))


def rules() -> list[dict[str, Any]]:
    return [rule for group in read("infra/prometheus/rules.yml")["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "infra/grafana/dashboards/tunegate.json").read_text())
    return found


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = dashboard()["panels"]
    return found


def queries() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def variables() -> dict[str, str]:
    return {one["name"]: one["query"]["query"] for one in dashboard()["templating"]["list"]}


def asked() -> set[str]:
    expressions = [rule["expr"] for rule in rules()] + queries() + list(variables().values())
    return {name for text in expressions for name in METRIC.findall(text)}


@pytest.mark.unit
def test_vllm_has_every_figure_that_is_asked_of_it() -> None:
    """By its own source: a counter is written with _total, a histogram with _bucket."""
    folder = ROOT / ".venv-serve" / PACKAGES / "vllm/v1/metrics"
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
def test_the_agent_has_every_figure_that_is_asked_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one with all that a figure may be about: a branch, TLS, a release in a slot, a key that was used."""
    monkeypatch.chdir(tmp_path)
    tls = {"tls": {"certificate": "x", "key": "x", "local_port": 1}}
    settings = {"name": "shop", "model": "m", "gate": None, "router": tls, "release": RELEASE, "state_dir": "state"}
    env = Environment(DeployConfig.model_validate(settings))
    env.router.folder.mkdir(parents=True)
    (env.router.folder / "router.pem").write_text("".join(write_certificate("router", "router")))
    (env.folder / "usage").mkdir()
    (env.folder / "usage/2026-11-28-blue.jsonl").write_text(
        json.dumps({"at": 1, "key": "k", "release": RELEASE}) + "\n"
    )
    with locked(env, "agent", "origin/main") as held:
        held.record.append("starting", "blue", release=RELEASE)
        with closing(Exporter(held)) as exporter:
            exporter.note(Situation(held.record.state(), env.config, observe(env, held.record.state())), End("done"))
            exporter.turn = Turn(0.1, 0, 0)
            found = exporter.answer("/metrics")
    assert found
    said = {line.split("{")[0].split(" ")[0] for line in found[1].decode().splitlines() if not line.startswith("#")}
    named = {name for name in asked() if name.startswith("tunegate_")}
    assert len(named) >= 15 and named - said == set()
    assert said - named <= {"tunegate_holder_info", "tunegate_git_info", "tunegate_git_commits_behind"}


@pytest.mark.unit
def test_prometheus_asks_the_agent_of_compose_which_names_all_else() -> None:
    config = read_environment(str(ROOT / "configs/deploy/compose.yaml"))
    (job,) = read("infra/prometheus/prometheus.yml")["scrape_configs"]
    address = f"127.0.0.1:{config.supervision.metrics_port}"
    assert job["job_name"] == "agent" and [one["url"] for one in job["http_sd_configs"]] == [
        f"http://{address}/targets"
    ]
    assert job["static_configs"] == [{"targets": [address], "labels": {"environment": config.name}}]
    jobs = {one["labels"]["job"] for one in targets_of(config, State())}
    asked_for = {job for rule in rules() for job in re.findall(r'job="(\w+)"', rule["expr"])}
    assert jobs | {"agent"} == asked_for == {"agent", "router", "slot"}


@pytest.mark.unit
def test_each_alert_says_what_helps_and_whether_it_wakes_somebody_and_was_seen_to_fire_and_not_to() -> None:
    assert {rule["labels"]["severity"] for rule in rules()} == {"page", "warn"}
    assert all(rule["annotations"]["summary"] and rule["for"] for rule in rules())
    tests = [one for test in read("infra/prometheus/rules_test.yml")["tests"] for one in test["alert_rule_test"]]
    for fires in (True, False):
        seen = {one["alertname"] for one in tests if bool(one.get("exp_alerts")) == fires}
        assert seen == {rule["alert"] for rule in rules()}


@pytest.mark.unit
def test_each_alerts_runbook_is_a_command_of_ours() -> None:
    import typer

    from tunegate import app

    group: Any = typer.main.get_command(app)
    lines = [
        line.strip().replace("{{ $labels.environment }}", "ENV")
        for rule in rules()
        for line in rule["annotations"]["runbook"].split(";")
    ]
    assert len(lines) >= len(rules())
    for line in lines:
        program, name, *words = re.sub(r" \(.*\)$", "", line).split()
        assert program == "tunegate"
        command = group.commands[name]
        while getattr(command, "commands", None):
            command = command.commands[words.pop(0)]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, line


@pytest.mark.unit
def test_an_alert_is_about_one_environment() -> None:
    """Whatever is summed or joined keeps the label, so that Alertmanager can group by it."""
    for rule in rules():
        for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", rule["expr"]):
            assert "environment" in labels.replace(" ", "").split(","), rule["alert"]
    route = read("infra/alertmanager/alertmanager.yml")["route"]
    assert route["group_by"] == ["environment"]


@pytest.mark.unit
def test_alertmanager_names_alerts_and_receivers_that_there_are() -> None:
    found = read("infra/alertmanager/alertmanager.yml")
    receivers = {one["name"] for one in found["receivers"]}
    assert {found["route"]["receiver"], *(one["receiver"] for one in found["route"]["routes"])} == receivers
    (hook,) = found["receivers"][0]["webhook_configs"]
    assert hook["url"].startswith("http://127.0.0.1:")
    inhibited = re.findall(r"[A-Z][A-Za-z]+", str(found["inhibit_rules"]))
    assert len(inhibited) >= 8 and set(inhibited) <= {rule["alert"] for rule in rules()}
    (told,) = read("infra/prometheus/prometheus.yml")["alerting"]["alertmanagers"]
    assert told["static_configs"] == [{"targets": ["127.0.0.1:9093"]}]


@pytest.mark.integration
@pytest.mark.parametrize(
    "command",
    [
        ["promtool", "check", "config", str(MONITORING / "prometheus.yml")],
        ["promtool", "test", "rules", str(MONITORING / "rules_test.yml")],
        ["amtool", "check-config", str(ROOT / "infra/alertmanager/alertmanager.yml")],
    ],
    ids=lambda command: " ".join(command[:3]),
)
def test_their_own_tools_take_them(command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.unit
def test_the_dashboard_is_whole_and_finds_its_source() -> None:
    source = read("infra/grafana/provisioning/datasources/prometheus.yml")["datasources"][0]
    assert {panel["datasource"]["uid"] for panel in panels()} == {source["uid"]}
    assert len({panel["id"] for panel in panels()}) == len(panels()) == 18
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels()]
    assert len(set(places)) == len(places) and all(panel["title"] and panel["targets"] for panel in panels())


@pytest.mark.unit
def test_every_query_is_about_the_environment_release_and_key_that_were_chosen() -> None:
    assert list(variables()) == ["environment", "release", "key"]
    assert all(one["includeAll"] and one["multi"] for one in dashboard()["templating"]["list"])
    for query in [*queries(), *list(variables().values())[1:]]:
        for labels in SELECTOR.findall(query):
            assert 'environment=~"$environment"' in labels, query
    for query in queries():
        for name, labels in re.findall(r"(vllm:\w+|tunegate_\w+)\{([^}]*)\}", query):
            by_key = name.startswith("tunegate_usage_")
            by_release = by_key or name.startswith("vllm:") or name == "tunegate_slot_info"
            assert ('release=~"$release"' in labels, 'key=~"$key"' in labels) == (by_release, by_key), query
