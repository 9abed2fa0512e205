"""The folder of an environment's state, as every command finds it: its home, or the place in build/ where an earlier
tunegate kept it, until a command that changes the environment has moved it (infra/state/home.py)."""

from __future__ import annotations

import json
import os
from pathlib import Path

from configs.environment.config import DeployConfig
from configs.environment.state import declared_folder, home_of
from configs.errors import InputError
from configs.read import environments_here
from configs.slots import SLOTS
from infra.state.places import EARLIER, RECORD, SHARED

OWNERS: dict[tuple[str, str, int], bool] = {}


class ForeignStateError(InputError):
    """Another user of this machine keeps the environment."""


def state_folder(config: DeployConfig) -> Path:
    """Record, keys, logs, sockets. Moves and makes nothing: who only looks changes nothing. Raises InputError where
    there is a state that is not this user's, or of which it cannot be told whose it is."""
    home = declared_folder(config)
    if config.state_dir is not None:
        return home
    if has_record(arrived_at(home)):
        return arrived_at(home)
    if not os.path.lexists(home):
        return earlier_place(config) or home
    if not os.access(home, os.R_OK | os.X_OK) and not is_dangling(home):
        raise ForeignStateError(
            f"{home}: another user, {owner_of(home)}, keeps {config.name} here", hint=as_owner(home, config)
        )
    return home if has_record(home) else earlier_place(config) or home


def owner_of(path: Path) -> str:
    try:
        return path.owner()
    except KeyError:
        return f"#{path.stat().st_uid}"


def as_owner(path: Path, config: DeployConfig) -> str:
    return f"sudo -u '{owner_of(path)}' tunegate status {config.name}"


def has_record(folder: Path) -> bool:
    return (folder / RECORD).is_file()


def arrived_at(home: Path) -> Path:
    """Where a state that is brought home lies for a moment, or after a kill until the next command."""
    return home.with_name(f".{home.name}.arrived")


def is_dangling(path: Path) -> bool:
    return path.is_symlink() and not path.exists()


def earlier_place(config: DeployConfig) -> Path | None:
    """Of this environment in this checkout. Raises InputError where that cannot be told."""
    for name in dict.fromkeys((config.name, SHARED)):
        folder = (EARLIER / name).absolute()
        if has_record(folder) and owns(config, folder):
            return folder
    return None


def owns(config: DeployConfig, folder: Path) -> bool:
    """Decided once for each record, for a command asks often."""
    key = (config.name, str(folder), (folder / RECORD).stat().st_ino)
    if key not in OWNERS:
        OWNERS[key] = decide_owner(config, folder)
    return OWNERS[key]


def decide_owner(config: DeployConfig, folder: Path) -> bool:
    """By its name; the folder that environments without a `state_dir` shared, by the ports that servers had."""
    others = [other for other in environments_here() if other.name != config.name]
    if any(other.state_dir and Path(other.state_dir).absolute() == folder for other in others):
        return False
    if folder.name != SHARED:
        return True
    candidates = [config, *(other for other in others if other.state_dir is None and not has_own_place(other))]
    found = owners_among(candidates, ports_in(folder / RECORD))
    if config.name not in found:
        return False
    if len(found) > 1:
        home = home_of(config.name)
        raise InputError(
            f"{folder}: found the state of one of {', '.join(sorted(found))}, and the record does not say of which",
            hint=f"mkdir -p {home.parent} && mv {folder} {home}   (if it is {config.name}'s)",
        )
    return True


def has_own_place(config: DeployConfig) -> bool:
    return config.name != SHARED and has_record(EARLIER / config.name)


def owners_among(candidates: list[DeployConfig], ports: set[int]) -> list[str]:
    """Names; pure. By the ports, if any server was started; else the one that the folder is named for."""
    fitting = [one.name for one in candidates if ports & {port for slot in SLOTS for port in one.ports_of(slot)}]
    named = [one.name for one in candidates if not ports and one.name == SHARED]
    return fitting or named or [one.name for one in candidates]


def ports_in(record: Path) -> set[int]:
    """Of all servers that were ever started. A line that cannot be read says nothing here: who acts on the record is
    stopped by it."""
    found = set[int]()
    with record.open(encoding="utf8", errors="replace") as stream:
        for line in stream:
            if '"kind":"started"' in line:
                try:
                    found.add(int(json.loads(line)["facts"]["port"]))
                except (ValueError, KeyError, TypeError):
                    continue
    return found
