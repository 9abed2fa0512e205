"""The command line: one thin front door. Heavy imports stay inside the commands that need them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from configs.console import AsJson, example, print_verdict, read_environment, show
from configs.errors import InputError, TunegateError
from serve.commands import add_commands

if TYPE_CHECKING:
    from configs.deploy import DeployConfig
    from configs.paths import RunPaths
    from configs.schema import RunConfig
    from configs.verdict import Verdict

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
releases = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Published releases, as in: tunegate releases list --json")


def print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"tunegate {version('tunegate')}")
        raise typer.Exit


@app.callback()
def front(version: Annotated[bool, typer.Option("--version", callback=print_version, is_eager=True, help="print the version and end")] = False) -> None:
    """From one YAML file to a served model, safely.

    Start with: tunegate run configs/finetune/smoke.yaml
    """


def judge_of(config: DeployConfig) -> Callable[[str, dict[str, float]], Verdict] | None:
    """`serve` and `eval` do not know each other: the front door hands the gate over."""
    from eval.gate import decide_load, read_rules

    rules = read_rules(Path(config.gate)) if config.gate else None
    return (lambda reference, figures: decide_load(rules, reference, figures)) if rules else None


Config = Annotated[Path, typer.Argument(help="a RunConfig, as configs/finetune/smoke.yaml")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="override a key: --set train.learning_rate=1e-4")]
Production = Annotated[str | None, typer.Option(help="the environment whose release is the champion; default: the config's")]


def read_run(path: Path, overrides: list[str] | None) -> RunConfig:
    from configs.loader import load
    from configs.schema import RunConfig

    return load(path, RunConfig, overrides)


@app.command(
    epilog=example(
        "tunegate check configs/finetune/*.yaml",
        "tunegate check configs/finetune/smoke.yaml --data",
        "tunegate check configs/deploy/local.yaml --json",
        "tunegate check configs/finetune/calls-v1.yaml --plan --device l4-24gb",
        "tunegate check --export-schemas",
    )
)
def check(
    files: Annotated[list[Path] | None, typer.Argument(help="run, gate or deploy files")] = None,
    overrides: Sets = None,
    as_json: AsJson = False,
    data: Annotated[bool, typer.Option("--data", help="also read the rows and name each one that is at fault")] = False,
    export_schemas: Annotated[bool, typer.Option(help="write the JSON Schemas that editors use to configs/schema")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="memory and time of each run, before anything is loaded")] = False,
    device: Annotated[str | None, typer.Option(help="plan for cpu, h100-80gb, a100-80gb, l4-24gb, ...; default: what is here")] = None,
) -> None:
    """Check YAML files: every problem at once, with file, line and key. Loads no weights."""
    from configs.check import check_files, export

    if export_schemas:
        export(Path("configs/schema"))
    elif not files:
        raise InputError("no file to check", hint="tunegate check configs/finetune/smoke.yaml")
    problems = check_files(files or [], overrides or [])
    if as_json and (problems or not (data or plan)):
        show([vars(problem) for problem in problems], True)
    if problems:
        for problem in problems if not as_json else []:
            typer.secho(str(problem), err=True, fg="red")
        raise typer.Exit(2)
    if data:
        check_data(files or [], overrides, as_json)
    if plan:
        plan_runs(files or [], overrides, device, as_json)
    if files and not (data or plan or as_json):
        typer.echo(f"{len(files)} file{'s' if len(files) != 1 else ''} good")


def check_data(files: list[Path], overrides: list[str] | None, as_json: bool) -> None:
    """Every run's rows are looked at before the first refusal ends the command with 1."""
    from configs.check import kind_of
    from configs.schema import RunConfig
    from train.check_data import check_rows

    found = [check_rows(read_run(path, overrides)) for path in files if kind_of(path) is RunConfig]
    if as_json:
        show([report for report, _ in found], True)
    for report, lines in found if not as_json else []:
        typer.echo("\n".join([*lines, f"{report['name']}: {report['rows']} rows read, {sum(report['findings'].values())} findings, {report['tokens']}"]))
    if any(report["refused"] for report, _ in found):
        raise typer.Exit(1)


def plan_runs(files: list[Path], overrides: list[str] | None, device: str | None, as_json: bool) -> None:
    """Every plan is shown before the first that does not fit ends it."""
    from train.plan import make_plan, print_plan, refuse_what_does_not_fit

    plans = [make_plan(read_run(path, overrides), device) for path in files]
    if as_json:
        show(plans, True)
    for path, made in zip(files, plans, strict=True):
        if not as_json:
            print_plan(made)
        refuse_what_does_not_fit(made, str(path))


@app.command(epilog=example("tunegate prepare configs/finetune/smoke.yaml"))
def prepare(config: Config, overrides: Sets = None, as_json: AsJson = False) -> None:
    """Rows in; splits, fingerprints and a data card out (build/NAME/data)."""
    show(run_prepare(read_run(config, overrides)), as_json)


def run_prepare(run: RunConfig) -> dict[str, Any]:
    from configs.paths import RunPaths
    from train.base import make_base
    from train.prepare import prepare

    return prepare(run, RunPaths.of(run.name), make_base(run))


@app.command(epilog=example("tunegate train configs/finetune/smoke.yaml", "tunegate train configs/finetune/smoke.yaml --set train.max_steps=4 --plot"))
def train(
    config: Config,
    overrides: Sets = None,
    as_json: AsJson = False,
    plot: Annotated[bool, typer.Option("--plot", help="draw the loss curve, also that of a finished training")] = False,
) -> None:
    """Train the LoRA adapter; a killed run picks up at its last checkpoint (build/NAME/adapter)."""
    run = read_run(config, overrides)
    record = run_train(run)
    show(record, as_json)
    if plot:
        from shutil import get_terminal_size

        from train.plot import draw_losses

        typer.echo(draw_losses(record, run.name, get_terminal_size().columns), err=True)


def run_train(run: RunConfig) -> dict[str, Any]:
    from configs.paths import RunPaths
    from infra.tracking import start_run
    from train.lora import train
    from train.prepare import read_card

    paths = RunPaths.of(run.name)
    tracker = start_run(run, paths.root / "tracking")
    record = train(run, paths, tracker)
    if not tracker.opening:  # it trained; a finished training leaves no empty run behind
        tracker.log_tags(lineage(run, paths))
        tracker.log_dataset(read_card(paths))
        tracker.finish()
    return record


def lineage(run: RunConfig, paths: RunPaths) -> dict[str, str]:
    """Which bytes the model is made from, and where its checkpoints and adapter lie."""
    from configs.release import read_manifest
    from train.base import make_base

    base = read_manifest(make_base(run))
    places = {"tunegate.checkpoints": str(paths.checkpoints), "tunegate.adapter": str(paths.adapter)}
    return {"tunegate.base": f"{base.base['name']} {base.base['version']}", "tunegate.base_digest": base.digest} | places


@app.command(epilog=example("tunegate sync", "tunegate sync calls-v1 --json"))
def sync(names: Annotated[list[str] | None, typer.Argument(help="runs under build; none: all")] = None, as_json: AsJson = False) -> None:
    """Deliver what MLflow could not take while it was down; each line once."""
    from infra.sync import sync

    show(sync(names or []), as_json)


@app.command(epilog=example("tunegate sweep configs/finetune/sentiment-sweep.yaml --set sweep.trials=4"))
def sweep(config: Config, overrides: Sets = None, as_json: AsJson = False) -> None:
    """Search hyperparameters by the config's `sweep` section; writes the best config and a plot (build/NAME/sweep)."""
    from configs.paths import RunPaths
    from infra.tracking import start_run
    from train.sweep import sweep
    from train.sweep_report import report

    run = read_run(config, overrides)
    if run.sweep is None:
        raise InputError(f"{config}: found no section sweep, expected one", hint="tunegate check --export-schemas   (configs/schema/run.json describes it)")
    run_prepare(run)
    study = sweep(run, run.sweep, RunPaths.of(run.name), start_run)
    show(report(study, config, overrides or [], RunPaths.of(run.name).root / "sweep"), as_json)


@app.command(epilog=example("tunegate quantize configs/finetune/smoke.yaml"))
def quantize(config: Config, overrides: Sets = None, as_json: AsJson = False) -> None:
    """Merge and quantize into a release with manifest and digest (build/NAME/release)."""
    show(run_quantize(read_run(config, overrides)), as_json)


def run_quantize(run: RunConfig) -> dict[str, Any]:
    from configs.paths import RunPaths
    from train.quantize import quantize

    manifest = quantize(run, RunPaths.of(run.name))
    return {"release": manifest.reference, "quantization": manifest.quantization}


@app.command(epilog=example("tunegate evaluate configs/finetune/smoke.yaml --json"))
def evaluate(config: Config, overrides: Sets = None, as_json: AsJson = False) -> None:
    """Measure the release through vLLM, with the arguments of production (build/NAME/eval)."""
    show(run_evaluate(read_run(config, overrides)), as_json)


def run_evaluate(run: RunConfig) -> dict[str, Any]:
    from configs.paths import RunPaths
    from eval.evaluate import evaluate

    return evaluate(run, RunPaths.of(run.name))


@app.command(epilog=example("tunegate gate configs/finetune/calls-v2.yaml", "tunegate gate configs/finetune/calls-v2.yaml --production staging --json"))
def gate(config: Config, overrides: Sets = None, production: Production = None, as_json: AsJson = False) -> None:
    """Judge the evaluation by the config's rules. Exit 0 pass, 1 fail, 4 inconclusive (build/NAME/gate)."""
    from configs.verdict import EXIT_CODES

    verdict = run_gate(read_run(config, overrides), production)
    typer.echo(verdict.model_dump_json(indent=2)) if as_json else print_verdict(verdict)
    raise typer.Exit(EXIT_CODES[verdict.outcome])


def run_gate(run: RunConfig, production: str | None) -> Verdict:
    from configs.paths import RunPaths
    from eval.gate import judge

    paths = RunPaths.of(run.name)
    verdict = judge(run, paths, read_environment(production or run.production))
    track_evaluation(paths)
    return verdict


def track_evaluation(paths: RunPaths) -> None:
    """The MLflow run that training began gets what was measured and judged."""
    from infra.tracking import resume_run

    training, metrics = (json.loads(path.read_text(encoding="utf8")) for path in (paths.adapter / "training.json", paths.evaluation / "metrics.json"))
    tracker = resume_run(training["tracking_run_id"], paths.root / "tracking")
    tracker.log_tags({"tunegate.release": metrics["release"]})
    tracker.log_metrics(metrics["metrics"], training["steps"])
    for folder in (paths.evaluation, paths.gate):
        tracker.log_artifacts(folder)
    tracker.finish()


def run_publish(run: RunConfig) -> Path:
    """Bytes to the DVC remote, name to the MLflow registry."""
    from configs.paths import RunPaths
    from configs.release import read_manifest
    from infra.artifacts import publish
    from infra.tracking import register

    paths = RunPaths.of(run.name)
    target = publish(paths)
    training = json.loads((paths.adapter / "training.json").read_text(encoding="utf8"))
    register(read_manifest(target / "release"), target / "release", training["tracking_run_id"])
    return target


@app.command(epilog=example("tunegate run configs/finetune/smoke.yaml", "tunegate run configs/finetune/sentiment.yaml --set train.learning_rate=1e-4"))
def run(config: Config, overrides: Sets = None, production: Production = None) -> None:
    """The whole way: prepare, train, quantize, evaluate, gate, and publish what passed."""
    from configs.verdict import EXIT_CODES

    settings = read_run(config, overrides)
    for name, stage in (("prepare", run_prepare), ("train", run_train), ("quantize", run_quantize), ("evaluate", run_evaluate)):
        typer.secho(f"{name} {settings.name}", err=True, bold=True)
        stage(settings)
    typer.secho(f"gate {settings.name}", err=True, bold=True)
    verdict = run_gate(settings, production)
    print_verdict(verdict)
    if verdict.outcome == "pass":
        typer.echo(f"   published  {run_publish(settings)}")
    raise typer.Exit(EXIT_CODES[verdict.outcome])


add_commands(app, judge_of)
app.add_typer(releases, name="releases")


@releases.command("verify", epilog=example("tunegate releases verify build/smoke/release"))
def verify(directory: Path) -> None:
    """Rehash every byte of a release directory; exit 1 names each file that differs."""
    from configs.release import verify_release

    typer.echo(verify_release(directory).reference)


@releases.command("list", epilog=example("tunegate releases list --json"))
def list_published(as_json: AsJson = False) -> None:
    """Published releases with digest and verdict."""
    from infra.artifacts import list_releases

    show(list_releases(), as_json)


@releases.command("publish", epilog=example("tunegate releases publish configs/finetune/smoke.yaml"))
def publish_release(config: Config) -> None:
    """Put a passed release, its evaluation and its verdict into the DVC remote."""
    typer.echo(str(run_publish(read_run(config, None))))


@releases.command("fetch", epilog=example("tunegate releases fetch calls-v2@sha256:..."))
def fetch(reference: str) -> None:
    """Bring a published release here from the DVC remote."""
    from infra.artifacts import find

    typer.echo(str(find(reference)))


QUIET = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1", "LLM_COMPRESSOR_LOG_LEVEL": "ERROR"}


def main() -> None:
    """Runs the app; our own errors become one message and an exit code, never a traceback."""
    for name, value in QUIET.items():  # libraries read these when imported; who wants their chatter sets them
        os.environ.setdefault(name, value)
    try:
        app()
    except TunegateError as error:
        typer.secho(f"error: {error}", err=True, fg="red")
        sys.exit(error.exit_code)
    except SystemExit as error:  # click turns Ctrl-C into 130 without a word
        if error.code == 130:
            typer.secho("interrupted: the same command goes on from here", err=True, fg="yellow")
        raise


if __name__ == "__main__":
    main()
