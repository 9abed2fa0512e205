"""`tunegate repro`: the stages of dvc.yaml for one config, those that are not done. Its lock says what was made from what."""

from __future__ import annotations

from pathlib import Path

from configs.errors import InconclusiveError, InputError, OutsideError, RefusedError, TunegateError
from infra.artifacts import repository

STAGES = ("prepare", "train", "quantize", "evaluate", "gate")


def reproduce(name: str, until: str, *, push: bool = False) -> list[str]:
    """Runs what is not done yet, up to the stage `until`; what the DVC remote has is fetched and not made again. Returns the stages that ran.

    `push`: their outs into the DVC remote, so that whoever has the lock from git need not train. Raises what the failed stage's exit code says.
    """
    from dvc.exceptions import ReproductionError

    if name not in known_configs():
        raise InputError(f"{name}: not in dvc.yaml, expected one of: {', '.join(known_configs())}", hint="add it to `configs` at the top of dvc.yaml")
    target = f"{until}@{name}"
    with repository() as repo:
        try:
            ran = repo.reproduce(targets=[target], pull=True)
        except ReproductionError as error:
            raise failed(name, until, error) from None
        if push:
            repo.push(targets=[target], with_deps=True)
    return [str(stage.addressing) for stage in ran]


def known_configs(path: Path = Path("dvc.yaml")) -> list[str]:
    """The matrix of dvc.yaml."""
    from ruamel.yaml import YAML

    page = YAML(typ="safe").load(path.read_text(encoding="utf8"))
    return sorted({str(name) for one in page["vars"] for name in one.get("configs", [])})


def failed(name: str, until: str, error: Exception) -> TunegateError:
    """As the stage's own command ended: DVC has its exit code only at the end of a sentence, `failed to run: COMMAND, exited with N`."""
    cause = str(error.__cause__ or "")
    code = cause.rpartition("exited with ")[2] if "exited with " in cause else ""
    kinds: dict[str, type[TunegateError]] = {"1": RefusedError, "2": InputError, "4": InconclusiveError}
    command = cause.removeprefix("failed to run: ").partition(",")[0].removeprefix(".venv/bin/")
    return kinds.get(code, OutsideError)(f"{error}: {cause}", hint=command or f".venv/bin/dvc repro {until}@{name}")
