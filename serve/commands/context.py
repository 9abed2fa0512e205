"""What commands share: the environment by its name, with the gate and its statistics; how a deployment's result is
shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from configs.paths import RunPaths
from configs.read import read_environment
from infra.terminal import show

if TYPE_CHECKING:
    from configs.environment.config import DeployConfig
    from configs.release import ReleaseUse
    from configs.run.config import RunConfig
    from serve.record.environment import Environment
    from serve.switch.reconcile import DeployResult


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


def refuse_unservable(environment: DeployConfig | None, run: RunConfig) -> None:
    """For the gate: raises RefusedError for a release that its environment's GPUs would never hold."""
    from serve.plan import stated

    stated.refuse_unservable(environment, RunPaths.of(run.name).release)


def used_releases() -> list[ReleaseUse]:
    """For `tunegate releases`."""
    from serve.record.releases_in_use import releases_in_use

    return releases_in_use()


def show_result(found: DeployResult, as_json: bool) -> None:
    """For people, the receipt in one line: `tunegate receipt` shows it whole."""
    from serve.record.receipt import in_one_line

    receipt = found.get("receipt")
    show(found if as_json or not receipt else {**found, "receipt": in_one_line(receipt)}, as_json)
