"""The pipeline's stages as dvc.yaml states them, for one config: in order, each with its command and what it waits for.

Exit codes decide what an engine does next: 0 goes on, 3 (something outside failed) or a signal may be tried again, 1, 2
and 4 never; 4 is neither a pass nor a failure, and has a branch of its own.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from configs.errors import InputError
from configs.section import JsonObject

DVC_YAML, CONFIGS = Path("dvc.yaml"), Path("configs/finetune")
OF_A_CONFIG = "${item.config}"
# What a published release must have come through; dvc.yaml has no stage for it, for it puts nothing out here.
PUBLISH = (".venv/bin/tunegate", "releases", "publish")
OUTSIDE_FAILED, INCONCLUSIVE = 3, 4
INCONCLUSIVE_SAYS = "inconclusive: the evidence is not enough to decide. The gate's report says what would be."


class Stage(NamedTuple):
    """`after`: the stages that it reads something of, nearest ones alone."""

    name: str
    command: tuple[str, ...]
    after: tuple[str, ...]


def read_stages(config: Path, checkout: Path = Path()) -> list[Stage]:
    """From the rows to a published release. Raises InputError where the config is none of the pipeline's."""
    import yaml

    path = checkout / CONFIGS / config.name
    if not path.is_file() or not (checkout / config).is_file() or not path.samefile(checkout / config):
        raise InputError(f"{config}: expected a config in {CONFIGS}", hint=f"ls {CONFIGS}")
    try:
        found = yaml.safe_load((checkout / DVC_YAML).read_text(encoding="utf8"))["stages"]
    except OSError:
        raise InputError(f"{checkout / DVC_YAML}: not there", hint="run it in the checkout") from None
    return stages_of(found, config.stem)


def stages_of(stages: Mapping[str, JsonObject], name: str) -> list[Stage]:
    """Of the config `name`: those that dvc.yaml runs for each config, and publishing after the last."""
    each = {stage: body for stage, body in stages.items() if OF_A_CONFIG in body["cmd"]}
    made_by = {out: stage for stage, body in each.items() for out in body["outs"]}
    found = list[Stage]()
    for stage, body in each.items():
        reads = {made_by[out] for out in made_by for dep in body["deps"] if dep == out or dep.startswith(f"{out}/")}
        found.append(Stage(stage, tuple(shlex.split(body["cmd"].replace(OF_A_CONFIG, name))), nearest(reads, found)))
    last = found[-1]
    return [*found, Stage("publish", (*PUBLISH, last.command[-1]), (last.name,))]


def nearest(reads: set[str], before: list[Stage]) -> tuple[str, ...]:
    """Without those that another of them has waited for."""
    waited, ahead = set[str](), {stage.name: set(stage.after) for stage in before}
    for stage in reads:
        todo = list(ahead[stage])
        while todo:
            one = todo.pop()
            waited.add(one)
            todo += ahead[one]
    return tuple(stage.name for stage in before if stage.name in reads - waited)


def judge_of(stages: list[Stage]) -> str:
    """The stage whose verdict may be inconclusive: the one that publishing waits for."""
    return stages[-1].after[-1]
