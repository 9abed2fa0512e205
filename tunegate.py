"""The command line: one thin front door. Heavy imports stay inside the commands that need them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import infra.commands.gitlab
import infra.commands.keys
import infra.commands.releases
import infra.commands.trace
import serve.commands.deploy
import train.commands
from configs.errors import TunegateError
from configs.run.config import read_run
from eval.commands import Production, run_evaluate, run_gate
from eval.commands import add_commands as add_eval_commands
from infra.commands.releases import run_publish
from infra.masking import masked
from infra.terminal import Config, Sets, example, print_verdict
from train.commands import run_prepare, run_quantize, run_train

if TYPE_CHECKING:
    from types import FrameType

    from configs.environment.config import DeployConfig
    from configs.release import ReleaseUse
    from configs.verdict import Verdict
    from serve.record.environment import Compare

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


def print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"tunegate {version('tunegate')}")
        raise typer.Exit


@app.callback()
def front(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="print the version and end")
    ] = False,
) -> None:
    """From one YAML file to a served model, safely.

    Start with: tunegate run configs/finetune/smoke.yaml
    """


def judge_of(config: DeployConfig) -> Callable[[str, dict[str, float]], Verdict] | None:
    """`serve` and `eval` do not know each other: the front door hands the gate over."""
    from eval.gate import read_rules
    from eval.rules.decide import decide_load

    rules = read_rules(Path(config.gate)) if config.gate else None
    return (lambda reference, figures: decide_load(rules, reference, figures)) if rules else None


def plan_environment(path: Path) -> dict[str, Any]:
    """`train` and `serve` do not know each other either."""
    from configs.environment.config import read_environment
    from serve.preview import preview
    from serve.record.environment import Environment

    config = read_environment(str(path))
    return preview(Environment(config), config.release)


train.commands.add_commands(app, plan_environment)


def compare_by() -> Compare:
    """The gate's statistics, for the watch under traffic."""
    from eval.statistics.unpaired import mean_difference, share_difference
    from serve.record.environment import Compare

    return Compare(share_difference, mean_difference)


def used_releases() -> list[ReleaseUse]:
    from serve.record.releases_in_use import releases_in_use

    return releases_in_use()


@app.command(
    epilog=example(
        "tunegate run configs/finetune/smoke.yaml",
        "tunegate run configs/finetune/sentiment.yaml --set train.learning_rate=1e-4",
    )
)
def run(config: Config, overrides: Sets = None, production: Production = None) -> None:
    """The whole way: prepare, train, quantize, evaluate, gate, and publish what passed."""
    from configs.verdict import EXIT_CODES

    settings = read_run(config, overrides)
    for name, stage in (("prepare", run_prepare), ("train", run_train), ("quantize", run_quantize)):
        typer.secho(f"{name} {settings.name}", err=True, bold=True)
        stage(settings)
    typer.secho(f"evaluate {settings.name}", err=True, bold=True)
    run_evaluate(settings, production)
    typer.secho(f"gate {settings.name}", err=True, bold=True)
    verdict = run_gate(settings, production)
    print_verdict(verdict)
    if verdict.outcome == "pass":
        typer.echo(f"   published  {run_publish(settings)}")
    raise typer.Exit(EXIT_CODES[verdict.outcome])


add_eval_commands(app)
serve.commands.deploy.add_commands(app, judge_of, compare_by)
infra.commands.releases.add_commands(app, used_releases)
infra.commands.trace.add_commands(app, used_releases)
infra.commands.keys.add_commands(app)
infra.commands.gitlab.add_commands(app)
ENDED_BY_SIGTERM = 143
QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
    "LLM_COMPRESSOR_LOG_LEVEL": "ERROR",
}


def end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(ENDED_BY_SIGTERM)


def main() -> None:
    """Runs the app; our own errors become one message and an exit code, never a traceback. SIGTERM ends it as Ctrl-C
    does: servers that it started end too."""
    signal.signal(signal.SIGTERM, end)
    for name, value in QUIET.items():  # libraries read these when imported; who wants their chatter sets them
        os.environ.setdefault(name, value)
    try:
        app()
    except TunegateError as error:
        typer.secho(f"error: {masked(str(error))}", err=True, fg="red")
        sys.exit(error.exit_code)
    except SystemExit as error:  # click turns Ctrl-C into 130 without a word
        if error.code in (130, ENDED_BY_SIGTERM):
            typer.secho("interrupted: the same command goes on from here", err=True, fg="yellow")
        raise


if __name__ == "__main__":
    main()
