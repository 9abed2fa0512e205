"""The command line: one thin front door. Heavy imports stay inside the commands that need them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated

import typer

import eval.commands
import infra.commands.gitlab
import infra.commands.keys
import infra.commands.releases
import infra.commands.render
import infra.commands.render_pipeline
import infra.commands.trace
import serve.commands.audit
import serve.commands.deploy
import serve.commands.operate
import serve.commands.serve
import serve.commands.view
import train.commands
from configs.errors import InputError, TunegateError
from configs.read import read_run
from eval.commands import Production, run_evaluate, run_gate
from infra.commands.releases import run_publish
from infra.masking import masked
from infra.terminal import AsJson, Config, Sets, example, print_problems, print_verdict, show
from serve.commands.context import refuse_unservable, used_releases
from train.commands import run_folds, run_prepare, run_quantize, run_train

if TYPE_CHECKING:
    from types import FrameType

    from configs.environment.config import DeployConfig
    from configs.errors import Problem
    from configs.run.config import RunConfig
    from configs.verdict import Verdict
    from serve.preview import Preview
    from serve.record.environment import Compare
    from train.tasks.grpo import Rewards

COLOURS = False if os.environ.get("NO_COLOR") else None  # None: on a terminal alone
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


def print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"tunegate {version('tunegate')}")
        raise typer.Exit


@app.callback()
def front(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="print the version and end")
    ] = False,
) -> None:
    """From one YAML file to a served model, safely.

    Start with: tunegate run configs/finetune/smoke.yaml
    """
    context.color = COLOURS
    for_rooms = (judge_of, judged_for, compare_by, used_releases, make_rewards, run_folds, refuse_unservable)
    context.obj = SimpleNamespace(**{one.__name__: one for one in for_rooms})


def judged_for(name: str | None) -> DeployConfig | None:
    """The environment that a release is judged for, its `release` the champion: `serve` keeps the record of it."""
    from serve.record.champion import read_judged

    return read_judged(name) if name else None


def judge_of(config: DeployConfig) -> Callable[[str, dict[str, float]], Verdict] | None:
    """The gate of an environment's load rules: `serve` and `eval` do not know each other, so it is handed over."""
    from eval.gate import read_rules
    from eval.rules.decide import decide_load

    rules = read_rules(Path(config.gate)) if config.gate else None
    return (lambda reference, figures: decide_load(rules, reference, figures)) if rules else None


def check(
    files: Annotated[list[Path] | None, typer.Argument(help="run, gate or deploy files")] = None,
    overrides: Sets = None,
    as_json: AsJson = False,
    data: Annotated[bool, typer.Option("--data", help="also read the rows and name each one that is at fault")] = False,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="NAME@DIGEST", help="with --data: how the rows differ from those of a release (or its directory)"
        ),
    ] = None,
    show_count: Annotated[
        int | None,
        typer.Option("--show", min=1, max=1000, help="print so many rows as training will see them, their loss marked"),
    ] = None,
    export_schemas: Annotated[
        bool, typer.Option(help="write the JSON Schemas that editors use to configs/schema")
    ] = False,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="memory and time of each run; of an environment its next deploy, and its room"),
    ] = False,
    device: Annotated[
        str | None, typer.Option(help="plan for cpu, h100-80gb, a100-80gb, l4-24gb, ...; default: what is here")
    ] = None,
) -> None:
    """Check YAML files: every problem at once, with file, line and key. Loads no weights."""
    from configs.check import are_of_gates, check_files, export
    from serve.plan.stated import refusal
    from train.check_base import check_bases

    if export_schemas:
        export(Path("configs/schema"))
    elif not files:
        raise InputError("no file to check", hint="tunegate check configs/finetune/smoke.yaml")
    if against and not data:
        raise InputError("--against without --data", hint="tunegate check CONFIG --data --against NAME@DIGEST")
    paths = files or []
    sets = overrides or []
    problems = check_files(paths, sets)
    bases = check_bases(paths, sets, refusal) if (readable := are_of_gates(problems, paths, sets)) else []
    if (bases or not readable or not (data or show_count)) and (problems or bases or not plan):
        show_problems(problems + bases, len(paths), as_json)
    print_problems(problems)  # of gates: the rows come after them
    if show_count:
        from train.show_rows import show_files

        show_files(paths, overrides, show_count, as_json)
    if data:
        from train.check_data import check_files_rows

        if not check_files_rows(paths, overrides, against, as_json):
            raise typer.Exit(1)
    if problems:
        raise typer.Exit(2)
    if plan:
        check_plans(paths, overrides, device, as_json)


def show_problems(problems: list[Problem], files: int, as_json: bool) -> None:
    """Ends the command with 2 where there is one."""
    if as_json:
        show([vars(problem) for problem in problems], True)
    else:
        print_problems(problems)
        if files and not problems:
            typer.echo(f"{files} file{'s' if files != 1 else ''} good")
    if problems:
        raise typer.Exit(2)


def check_plans(paths: list[Path], overrides: list[str] | None, device: str | None, as_json: bool) -> None:
    """Every plan is shown before the first run that does not fit ends the command with 1."""
    from configs.check import kind_of
    from configs.environment.config import DeployConfig
    from train.plan import make_plan, print_plan, refuse_what_does_not_fit

    environments = [path for path in paths if kind_of(path) is DeployConfig]
    deploys = [plan_environment(path) for path in environments]
    runs = {path: make_plan(read_run(path, overrides), device) for path in paths if path not in environments}
    if as_json:  # one environment alone is itself, not a list
        show(deploys[0] if len(deploys) == 1 and not runs else [*deploys, *runs.values()], True)
    for deploy in deploys if not as_json else []:
        show(deploy, False)
    for path, made in runs.items():
        if not as_json:
            print_plan(made)
        refuse_what_does_not_fit(made, str(path))


def plan_environment(path: Path) -> Preview:
    """What the next deploy of an environment would do."""
    from configs.read import read_environment
    from serve.preview import preview
    from serve.record.environment import Environment

    return preview(Environment(config := read_environment(str(path))), config.release)


def compare_by() -> Compare:
    """The gate's statistics, for the watch under traffic."""
    from eval.statistics.unpaired import mean_difference, share_difference
    from serve.record.environment import Compare

    return Compare(share_difference, mean_difference)


def make_rewards(run: RunConfig) -> Rewards | None:
    """The gate's own metrics as what a training answer is rewarded for; None where the run learns from none."""
    if not run.train.reward:
        return None
    from eval.measure.rewards import make_rewards

    return make_rewards(run)


def run(config: Config, overrides: Sets = None, production: Production = None) -> None:
    """The whole way: prepare, train, quantize, evaluate, gate, and publish what passed."""
    from configs.check import refuse_gate
    from configs.verdict import EXIT_CODES
    from eval.report.headline import headline

    settings = read_run(config, overrides)
    refuse_gate(settings, config, production)
    stages: dict[str, Callable[[RunConfig], object]] = {
        "prepare": run_prepare,
        "train": lambda run: run_train(run, make_rewards(run)),
        "quantize": run_quantize,
    }
    for name, stage in stages.items():
        typer.secho(f"{name} {settings.name}", err=True, bold=True)
        stage(settings)
    typer.secho(f"evaluate {settings.name}", err=True, bold=True)
    run_evaluate(settings, environment := judged_for(production or settings.production), run_folds)
    typer.secho(f"gate {settings.name}", err=True, bold=True)
    refuse_unservable(environment, settings)
    verdict = run_gate(settings, environment)
    print_verdict(verdict, headline(verdict))
    if verdict.outcome == "pass":
        typer.echo(f"   published  {run_publish(settings)}")
    raise typer.Exit(EXIT_CODES[verdict.outcome])


app.command(
    epilog=example(
        "tunegate check configs/finetune/*.yaml",
        "tunegate check configs/finetune/smoke.yaml --data",
        "tunegate check configs/finetune/smoke.yaml --data --against smoke@sha256:3f…",
        "tunegate check configs/deploy/local.yaml --json",
        "tunegate check configs/finetune/calls-v1.yaml --plan --device l4-24gb",
        "tunegate check configs/deploy/local.yaml --plan",
        "tunegate check --export-schemas",
    )
)(check)
train.commands.add_commands(app)
app.command(
    epilog=example(
        "tunegate run configs/finetune/smoke.yaml",
        "tunegate run configs/finetune/sentiment.yaml --set train.learning_rate=1e-4",
    )
)(run)
for commands in (
    eval.commands,
    serve.commands.view,
    serve.commands.operate,
    serve.commands.audit,
    serve.commands.serve,
    serve.commands.deploy,
    infra.commands.releases,
    infra.commands.trace,
    infra.commands.keys,
    infra.commands.gitlab,
    infra.commands.render_pipeline,
    infra.commands.render,
):
    commands.add_commands(app)
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
        typer.secho(f"error: {masked(str(error))}", err=True, fg="red", color=COLOURS)
        sys.exit(error.exit_code)
    except SystemExit as error:  # click turns Ctrl-C into 130 without a word
        if error.code in (130, ENDED_BY_SIGTERM):
            typer.secho("interrupted: the same command goes on from here", err=True, fg="yellow", color=COLOURS)
        raise


if __name__ == "__main__":
    main()
