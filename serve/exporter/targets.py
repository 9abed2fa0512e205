"""Where an environment's other figures are, as Prometheus' http_sd_config reads it."""

from __future__ import annotations

from typing import TypedDict

from configs.environment.config import DeployConfig
from configs.release import short
from configs.slots import SLOTS, SlotName, other
from infra.haproxy.servers import server_names
from serve.record.state import State


class Target(TypedDict):
    targets: list[str]
    labels: dict[str, str]


def targets_of(config: DeployConfig, state: State) -> list[Target]:
    """The router's own figures, and every server of both slots, whether it runs or not."""
    where = {"environment": config.name}
    found: list[Target] = []
    if config.router.metrics_port and config.router_of is None:
        found.append({"targets": [f"127.0.0.1:{config.router.metrics_port}"], "labels": {**where, "job": "router"}})
    for slot in SLOTS:
        labels = {**where, "job": "slot", "slot": slot}
        release = state.release_of(slot)
        if release:
            labels["release"] = short(release)
        for name, port in ports_of(config, state, slot).items():
            found.append({"targets": [f"127.0.0.1:{port}"], "labels": {**labels, "server": name}})
    return found


def ports_of(config: DeployConfig, state: State, slot: SlotName) -> dict[str, int]:
    """By the server's name: where it was started, else where it will be. One that lives in the other slot's server is
    asked there alone."""
    taken = started(state, other(slot)).values()
    ports = {number: port for number, port in enumerate(config.ports_of(slot)) if port not in taken}
    ports |= started(state, slot)
    found = state.slots[slot]
    shared = {number for number, one in found.servers.items() if one.process.get("prefix")} if found else set()
    names = server_names(slot, max(ports, default=0) + 1)
    return {names[number]: port for number, port in sorted(ports.items()) if number not in shared}


def started(state: State, slot: SlotName) -> dict[int, int]:
    """Ports of the servers that the slot has to itself, by number."""
    found = state.slots[slot]
    servers = found.servers.items() if found else ()
    return {number: one.process["port"] for number, one in servers if not one.process.get("prefix")}
