"""The training room's commands of the front door: check, prepare, train, sweep, quantize."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from configs.errors import InputError
from configs.run.config import read_run
from infra.terminal import AsJson, Config, Sets, example, show

if TYPE_CHECKING:
    from configs.data_card import DataCard
    from configs.paths import RunPaths
    from configs.run.config import RunConfig
    from configs.training_record import TrainingRecord


def add_commands(app: typer.Typer, plan_environment: Callable[[Path], dict[str, Any]]) -> None:
    """Heavy imports stay inside the commands that need them. `plan_environment` says what a deploy would do; it comes
    from `serve`."""
    add_check(app, plan_environment)
    add_stages(app)
    add_sweep(app)


def add_check(app: typer.Typer, plan_environment: Callable[[Path], dict[str, Any]]) -> None:
    @app.command(
        epilog=example(
            "tunegate check configs/finetune/*.yaml",
            "tunegate check configs/finetune/smoke.yaml --data",
            "tunegate check configs/deploy/local.yaml --json",
            "tunegate check configs/finetune/calls-v1.yaml --plan --device l4-24gb",
            "tunegate check configs/deploy/local.yaml --plan",
            "tunegate check --export-schemas",
        )
    )
    def check(
        files: Annotated[list[Path] | None, typer.Argument(help="run, gate or deploy files")] = None,
        overrides: Sets = None,
        as_json: AsJson = False,
        data: Annotated[
            bool, typer.Option("--data", help="also read the rows and name each one that is at fault")
        ] = False,
        export_schemas: Annotated[
            bool, typer.Option(help="write the JSON Schemas that editors use to configs/schema")
        ] = False,
        plan: Annotated[
            bool,
            typer.Option(
                "--plan",
                help="memory and time of each run; of an environment the steps of its next deploy, and whether there is room",
            ),
        ] = False,
        device: Annotated[
            str | None, typer.Option(help="plan for cpu, h100-80gb, a100-80gb, l4-24gb, ...; default: what is here")
        ] = None,
    ) -> None:
        """Check YAML files: every problem at once, with file, line and key. Loads no weights."""
        from configs.check import check_files, export, kind_of
        from configs.environment.config import DeployConfig

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
            environments = [path for path in files or [] if kind_of(path) is DeployConfig]
            for path in environments:
                show(plan_environment(path), as_json)
            plan_runs(
                [path for path in files or [] if path not in environments],
                overrides,
                device,
                as_json and not environments,
            )
        if files and not (data or plan or as_json):
            typer.echo(f"{len(files)} file{'s' if len(files) != 1 else ''} good")


def add_stages(app: typer.Typer) -> None:
    @app.command(epilog=example("tunegate prepare configs/finetune/smoke.yaml"))
    def prepare(config: Config, overrides: Sets = None, as_json: AsJson = False) -> None:
        """Rows in; splits, fingerprints and a data card out (build/NAME/data)."""
        show(run_prepare(read_run(config, overrides)), as_json)

    @app.command(
        epilog=example(
            "tunegate train configs/finetune/smoke.yaml",
            "tunegate train configs/finetune/smoke.yaml --set train.max_steps=4 --plot",
        )
    )
    def train(
        config: Config,
        overrides: Sets = None,
        as_json: AsJson = False,
        plot: Annotated[
            bool, typer.Option("--plot", help="draw the loss curve, also that of a finished training")
        ] = False,
    ) -> None:
        """Train the model; a killed run picks up at its last checkpoint (build/NAME/trained)."""
        run = read_run(config, overrides)
        record = run_train(run)
        show(record, as_json)
        if plot:
            from shutil import get_terminal_size

            from train.loop.loss_curve import draw_losses

            typer.echo(draw_losses(record, run.name, get_terminal_size().columns), err=True)

    @app.command(epilog=example("tunegate quantize configs/finetune/smoke.yaml"))
    def quantize(config: Config, overrides: Sets = None, as_json: AsJson = False) -> None:
        """Merge and quantize into a release with manifest and digest (build/NAME/release)."""
        show(run_quantize(read_run(config, overrides)), as_json)


def add_sweep(app: typer.Typer) -> None:
    @app.command(epilog=example("tunegate sweep configs/finetune/sentiment-sweep.yaml --set sweep.trials=4"))
    def sweep(config: Config, overrides: Sets = None, as_json: AsJson = False) -> None:
        """Search hyperparameters by the config's `sweep` section; writes the best config and a plot
        (build/NAME/sweep)."""
        from configs.paths import RunPaths
        from infra.mlflow.tracking import start_run
        from train.search.report import report
        from train.sweep import sweep

        run = read_run(config, overrides)
        if run.sweep is None:
            raise InputError(
                f"{config}: found no section sweep, expected one",
                hint="tunegate check --export-schemas   (configs/schema/run.json describes it)",
            )
        run_prepare(run)
        study = sweep(run, run.sweep, RunPaths.of(run.name), start_run)
        show(report(study, config, overrides or [], RunPaths.of(run.name).root / "sweep"), as_json)


def check_data(files: list[Path], overrides: list[str] | None, as_json: bool) -> None:
    """Every run's rows are looked at before the first refusal ends the command with 1."""
    from configs.check import kind_of
    from configs.run.config import RunConfig
    from train.check_data import check_rows

    found = [check_rows(read_run(path, overrides)) for path in files if kind_of(path) is RunConfig]
    if as_json:
        show([report for report, _ in found], True)
    for report, lines in found if not as_json else []:
        typer.echo(
            "\n".join(
                [
                    *lines,
                    f"{report['name']}: {report['rows']} rows read, {sum(report['findings'].values())} findings, {report['tokens']}",
                ]
            )
        )
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


def run_prepare(run: RunConfig) -> DataCard:
    from configs.paths import RunPaths
    from train.model.base import make_base
    from train.prepare import prepare

    return prepare(run, RunPaths.of(run.name), make_base(run))


def run_train(run: RunConfig) -> TrainingRecord:
    from configs.paths import RunPaths
    from infra.mlflow.tracking import start_run
    from train.data.prepared import read_card
    from train.finetune import finetune

    paths = RunPaths.of(run.name)
    tracker = start_run(run, paths.root / "tracking")
    record = finetune(run, paths, tracker)
    if not tracker.opening:  # it trained; a finished training leaves no empty run behind
        tracker.log_tags(lineage(run, paths))
        tracker.log_dataset(read_card(paths))
        tracker.finish()
    return record


def lineage(run: RunConfig, paths: RunPaths) -> dict[str, str]:
    """Which bytes the model is made from, and where its checkpoints and adapter lie."""
    from configs.release import read_manifest
    from train.model.base import make_base

    base = read_manifest(make_base(run))
    places = {"tunegate.checkpoints": str(paths.checkpoints), "tunegate.adapter": str(paths.trained)}
    return {
        "tunegate.base": f"{base.base['name']} {base.base['version']}",
        "tunegate.base_digest": base.digest,
    } | places


def run_quantize(run: RunConfig) -> dict[str, Any]:
    from configs.paths import RunPaths
    from train.quantize import quantize

    manifest = quantize(run, RunPaths.of(run.name))
    return {"release": manifest.reference, "quantization": manifest.quantization}
