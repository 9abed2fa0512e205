"""The compose file: by its schema, and what it must not do. Docker itself took it once: docs/images.md."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.paths import ROOT

pytestmark = pytest.mark.unit
COMPOSE = ROOT / "infra/compose.yaml"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load(COMPOSE.read_text(encoding="utf8"))["services"]
    return found


def test_it_is_what_the_compose_specification_describes() -> None:
    run = subprocess.run(
        [ROOT / ".venv/bin/check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout


def test_every_published_port_is_on_loopback(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len(ports) >= 5 and all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports)


def test_no_secret_is_in_it_and_none_has_a_default(services: dict[str, Any]) -> None:
    values = [value for service in services.values() for value in (service.get("environment") or {}).items()]
    secrets = [
        str(value)
        for name, value in values
        if re.search("PASSWORD|SECRET|KEY|STORE_URI", name) and name != "TUNEGATE_HEALTH"
    ]
    assert len(secrets) >= 8
    assert [value for value in secrets if not re.search(r"\$\{[A-Z0-9_]+:\?\}", value)] == []


@pytest.mark.parametrize(
    ("profile", "agent", "watching"),
    [("cpu", "agent-cpu", ["prometheus-cpu", "alertmanager-cpu"]), ("gpu", "agent", ["prometheus", "alertmanager"])],
)
def test_each_profile_is_the_whole_stack(
    services: dict[str, Any], profile: str, agent: str, watching: list[str]
) -> None:
    runs = {name for name, service in services.items() if profile in service.get("profiles", [profile])}
    assert runs == {agent, *watching, "mlflow", "postgres", "s3", "buckets", "grafana"}
    modes = [services[name]["network_mode"] for name in watching]
    assert modes == [f"service:{agent}"] * 2, "figures and alerts are on loopback there, and nowhere else"
    assert ("deploy" in services[agent]) == (profile == "gpu"), "only the GPU's asks for one"


def test_the_agent_may_write_nothing_but_its_checkout_and_has_no_rights(services: dict[str, Any]) -> None:
    for name in ("agent", "agent-cpu"):
        service = services[name]
        assert (
            service["read_only"]
            and service["cap_drop"] == ["ALL"]
            and service["security_opt"] == ["no-new-privileges:true"]
            and service["init"]
        )
        targets = [volume.rpartition(":")[2] for volume in service["volumes"]]
        assert targets == ["/srv/tunegate", "/var/lib/tunegate"] and not service.get("privileged")


def test_the_state_outlives_the_container(services: dict[str, Any]) -> None:
    """In a volume at the place that a system install has, which the image gives to its user."""
    assert all("state:/var/lib/tunegate" in services[name]["volumes"] for name in ("agent", "agent-cpu"))
    assert "volumes: {state: {}," in COMPOSE.read_text(encoding="utf8")
    assert "install -d -m 700 -o tunegate -g tunegate /var/lib/tunegate" in (ROOT / "Dockerfile.gpu").read_text()


def test_what_is_mounted_from_here_exists(services: dict[str, Any]) -> None:
    mounted = [
        volume.split(":")[0]
        for service in services.values()
        for volume in service.get("volumes", [])
        if volume.startswith("./")
    ]
    assert len(mounted) >= 3 and [path for path in mounted if not (COMPOSE.parent / path).exists()] == []


def test_nothing_starts_before_what_it_needs_is_healthy(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            assert how["condition"] == "service_completed_successfully" or "healthcheck" in services[needed], (
                name,
                needed,
            )
