"""The compose file: by its schema, and what it must not do. Docker itself took it once: docs/images.md."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.paths import ROOT
from tests.test_dockerfile import CACHE, CACHES, environment_of

pytestmark = pytest.mark.unit
COMPOSE = ROOT / "infra/compose.yaml"
GPUS, SLOTS = 8, 2  # of one machine: a GB of shared memory for each of a server's GPUs


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
        assert targets == ["/srv/tunegate", "/var/lib/tunegate", CACHE] and not service.get("privileged")


def faults_of(service: dict[str, Any], volumes: dict[str, Any]) -> list[str]:
    """What keeps model servers on GPUs from running in this container. Docker mounts a tmpfs noexec unless told."""
    places = environment_of("serve") | {str(name): str(value) for name, value in service["environment"].items()}
    mounts = {}
    for volume in service.get("volumes", []):
        source, target, *options = re.sub(r"\$\{[^}]*\}", "checkout", volume).split(":")
        mounts[target] = (source, ",".join(options))
    tmpfs = {path: options.split(",") for path, _, options in (one.partition(":") for one in service["tmpfs"])}
    faults = []
    for name in CACHES:
        folder = next(
            (one for one in [Path(places[name]), *Path(places[name]).parents] if str(one) in mounts | tmpfs), None
        )
        volume, how = mounts.get(str(folder), ("", ""))
        if volume not in volumes:
            faults.append(f"{name}: {places[name]} lasts in no volume")
        elif volumes[volume] or how:
            faults.append(f"{name}: {places[name]} lies on a mount with options")
    if "exec" not in tmpfs.get("/tmp", []):
        faults.append("/tmp is noexec")
    size = re.fullmatch(r"(?:\$\{\w+:-)?(\d+)gb?\}?", str(service.get("shm_size", "")))
    if service.get("ipc") != "host" and (size is None or int(size[1]) < GPUS * SLOTS):
        faults.append(f"shm_size: {service.get('shm_size')}")
    return faults


@pytest.mark.parametrize("name", ["agent", "agent-cpu"])
def test_kernels_are_loaded_from_where_they_were_compiled_and_gpus_have_memory_to_share(
    services: dict[str, Any], name: str
) -> None:
    assert faults_of(services[name], volumes_of()) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"volumes": []}, "TRITON_CACHE_DIR: /var/cache/tunegate/triton lasts in no volume"),
        ({"volumes": ["/srv/caches:/var/cache/tunegate"]}, "HOME: /var/cache/tunegate lasts in no volume"),
        ({"volumes": ["caches:/var/cache/tunegate:noexec"]}, "HOME: /var/cache/tunegate lies on a mount with options"),
        ({"environment": {"HOME": "/home/tunegate"}}, "HOME: /home/tunegate lasts in no volume"),
        ({"environment": {"TRITON_CACHE_DIR": "/tmp/triton"}}, "TRITON_CACHE_DIR: /tmp/triton lasts in no volume"),
        ({"tmpfs": ["/tmp"]}, "/tmp is noexec"),
        ({"tmpfs": ["/tmp:exec", "/var/cache/tunegate/triton"]}, "TRITON_CACHE_DIR: /var/cache/tunegate/triton …"),
        ({"shm_size": "1gb"}, "shm_size: 1gb"),
        ({"shm_size": None}, "shm_size: None"),
    ],
)  # fmt: skip
def test_each_of_those_faults_would_be_seen(services: dict[str, Any], change: dict[str, Any], fault: str) -> None:
    found = faults_of(services["agent"] | change, volumes_of())
    assert any(one.startswith(fault.removesuffix("…")) for one in found), found


def test_the_hosts_shared_memory_is_as_good_as_enough_of_its_own(services: dict[str, Any]) -> None:
    assert faults_of(services["agent"] | {"shm_size": None, "ipc": "host"}, volumes_of()) == []


def volumes_of() -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load(COMPOSE.read_text(encoding="utf8"))["volumes"]
    return found


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
