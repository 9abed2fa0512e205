"""Where an environment's state lies: its record, keys, logs and sockets. Outside of every checkout, and by its name
alone, so that an agent in /opt and a job of CI in a checkout of its own mean the same environment."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from configs.environment.config import DeployConfig
from configs.errors import InputError

VARIABLE = "TUNEGATE_STATE_HOME"
SYSTEM_HOME = Path("/var/lib/tunegate")  # systemd makes it (StateDirectory=tunegate), and who may write there uses it
HINT = f"export {VARIABLE}=/var/lib/tunegate"


def declared_folder(config: DeployConfig) -> Path:
    """`state_dir` where the YAML says one, relative to the checkout; else the environment's own. Makes nothing."""
    return home_of(config.name) if config.state_dir is None else Path(config.state_dir)


def home_of(name: str) -> Path:
    """The folder of the environment `name`, absolute. Raises InputError for a home that is none, or that `make clean`
    would remove."""
    variables = (os.environ.get(key) for key in (VARIABLE, "XDG_STATE_HOME", "HOME"))
    found = resolve(name, *variables, SYSTEM_HOME)
    if found.parent.resolve().is_relative_to(Path("build").resolve()):
        raise InputError(f"{found}: found a state home in build/, which `make clean` removes", hint=HINT)
    return found


@cache
def resolve(name: str, given: str | None, xdg: str | None, home: str | None, system: Path) -> Path:
    """Decided once a process: a system folder that is made later does not take a running agent's state from it."""
    if given:
        if not os.path.isabs(given):
            raise InputError(f"{VARIABLE}: found {given!r}, expected an absolute path", hint=HINT)
        return Path(given) / name
    if os.access(system, os.W_OK | os.X_OK) or os.path.lexists(system / name):
        return system / name
    if xdg and os.path.isabs(xdg):  # a relative one is to be ignored, says the XDG base directory specification
        return Path(xdg) / "tunegate" / name
    try:
        return Path(home or Path.home()).absolute() / ".local/state/tunegate" / name
    except RuntimeError:
        raise InputError("this user has no home directory for an environment's state", hint=HINT) from None


def known_homes() -> list[Path]:
    """The folders of every environment that has state where new ones would lie now."""
    folder = home_of("x").parent
    return sorted(path for path in folder.glob("[!.]*") if path.is_dir()) if os.access(folder, os.R_OK) else []
