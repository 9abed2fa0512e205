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
    from configs.environment.config import DeployConfig
    from configs.loader import load

    return load(environment_path(name), DeployConfig)


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
