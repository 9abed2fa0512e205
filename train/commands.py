"""Options of `prepare`, `train`, `quantize`, `sweep`. Heavy imports stay inside the commands that need them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from configs.errors import InputError
from configs.run.config import read_run
from infra.terminal import AsJson, Config, Sets, example, show

if TYPE_CHECKING:
    from configs.paths import RunPaths
    from configs.run.config import RunConfig


def prepare(config: Config, overrides: Sets = None, as_json: AsJson = False) -> None:
    """Rows in; splits, fingerprints and a data card out (build/NAME/data)."""
    show(run_prepare(read_run(config, overrides)), as_json)


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

        from train.loop.loss_curve import draw_losses

        typer.echo(draw_losses(record, run.name, get_terminal_size().columns), err=True)


def quantize(config: Config, overrides: Sets = None, as_json: AsJson = False) -> None:
    """Merge and quantize into a release with manifest and digest (build/NAME/release)."""
    show(run_quantize(read_run(config, overrides)), as_json)


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


def add_commands(app: typer.Typer) -> None:
    app.command(epilog=example("tunegate prepare configs/finetune/smoke.yaml"))(prepare)
    app.command(
        epilog=example(
            "tunegate train configs/finetune/smoke.yaml",
            "tunegate train configs/finetune/smoke.yaml --set train.max_steps=4 --plot",
        )
    )(train)
    app.command(epilog=example("tunegate quantize configs/finetune/smoke.yaml"))(quantize)
    app.command(epilog=example("tunegate sweep configs/finetune/sentiment-sweep.yaml --set sweep.trials=4"))(sweep)


def run_prepare(run: RunConfig) -> dict[str, Any]:
    from configs.paths import RunPaths
    from train.model.base import make_base
    from train.prepare import prepare

    return prepare(run, RunPaths.of(run.name), make_base(run))


def run_train(run: RunConfig) -> dict[str, Any]:
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
    places = {"tunegate.checkpoints": str(paths.checkpoints), "tunegate.adapter": str(paths.adapter)}
    return {
        "tunegate.base": f"{base.base['name']} {base.base['version']}",
        "tunegate.base_digest": base.digest,
    } | places


def run_quantize(run: RunConfig) -> dict[str, Any]:
    from configs.paths import RunPaths
    from train.quantize import quantize

    manifest = quantize(run, RunPaths.of(run.name))
    return {"release": manifest.reference, "quantization": manifest.quantization}
