"""The environment of a command: read by its name, with the gate and its statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from configs.environment.config import read_environment

if TYPE_CHECKING:
    from serve.record.environment import Environment


def open_environment(context: typer.Context, name: str, why: str | None = None) -> Environment:
    """`context.obj` holds what `tunegate.py` hands over from `eval`, which this room does not know: `judge_of` an
    environment gives the gate of its load rules, `compare_by` its statistics."""
    from serve.record.environment import Environment

    config = read_environment(name)
    return Environment(
        config,
        lambda line: typer.secho(line, err=True),
        context.obj.judge_of(config),
        context.obj.compare_by(),
        why=why,
    )
