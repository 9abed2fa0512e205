"""A run's and an environment's YAML, read by path or name. The models are imported where they are needed: every command
imports this file, and `tunegate --help` must not wait for pydantic."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from configs.environment.config import DeployConfig
    from configs.run.config import RunConfig


def read_run(path: Path, overrides: list[str] | None) -> RunConfig:
    from configs.loader import load
    from configs.run.config import RunConfig

    return load(path, RunConfig, overrides)


def environment_path(name: str) -> Path:
    """`local` is configs/deploy/local.yaml; a path to a YAML file is itself."""
    return Path(name) if name.endswith((".yaml", ".yml")) else Path("configs/deploy") / f"{name}.yaml"


def read_environment(name: str) -> DeployConfig:
    """With the router that it is behind. Raises ConfigError, also where that one is not here, or is behind another
    itself."""
    from configs.environment.config import DeployConfig
    from configs.errors import ConfigError, Problem
    from configs.loader import load

    found = load(environment_path(name), DeployConfig)
    if found.router_of is None:
        return found
    path, wrong = environment_path(found.router_of), None
    host = load(path, DeployConfig) if path.exists() else None
    if host is None:
        wrong = f"an environment of this checkout: there is no {path}"
    elif host.router_of is not None:
        wrong = f"an environment with a router of its own: that one is behind {host.router_of}'s"
    if host is None or wrong:
        problem = Problem(str(environment_path(name)), None, "router_of", found.router_of, wrong or "")
        raise ConfigError([problem], hint=f"tunegate check {environment_path(name)}")
    return found.behind(host)


def environments_here(but: Path | None = None) -> list[DeployConfig]:
    """Those of the checkout, but for the file `but`; one that cannot be read says so itself, when it is asked for."""
    from configs.errors import ConfigError

    found = []
    for path in sorted(Path("configs/deploy").glob("*.yaml")):
        if but is None or not but.exists() or not path.samefile(but):
            try:
                found.append(read_environment(str(path)))
            except ConfigError:
                continue
    return found


def release_gate_of(environment: str | None) -> str | None:
    """The gate that judges what is meant for it; None where it is not here, or states none."""
    if environment is None or not environment_path(environment).exists():
        return None
    found = read_environment(environment)
    return read_environment(found.staging_for).release_gate if found.staging_for else found.release_gate
