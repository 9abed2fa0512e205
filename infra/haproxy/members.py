"""Environments behind another one's router: what HAProxy must know of each, kept beside its configuration, so that
whoever writes that anew knows them all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypedDict

from configs.environment.config import DeployConfig
from configs.slots import SLOTS, SlotName
from infra.files.atomic import read_json, write_private
from infra.state.folder import state_folder

FILE = "members.json"


class Member(TypedDict):
    """`ports`: of each slot's servers; `state`: the folder of its state."""

    model: str
    ports: dict[SlotName, list[int]]
    state: str


def read_members(folder: Path) -> dict[str, Member]:
    """By the name of the environment. `folder`: of the router."""
    return dict(read_json(folder / FILE) or {})


def member_of(config: DeployConfig) -> Member:
    ports: dict[SlotName, list[int]] = {slot: list(config.ports_of(slot)) for slot in SLOTS}
    return {"model": config.model, "ports": ports, "state": str(state_folder(config).absolute())}


def write_members(folder: Path, members: dict[str, Member]) -> None:
    write_private(folder / FILE, json.dumps(members, indent=1, sort_keys=True) + "\n")


def suffix_of(config: DeployConfig) -> str:
    """Of its keys in the maps, its backends and its servers; empty for the environment whose router it is."""
    return f".{config.name}" if config.router_of else ""
