"""Options of `evaluate`, `gate`, `compare`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from configs.errors import InputError
from configs.read import read_run
from infra.terminal import (
    AsJson,
    Config,
    Sets,
    example,
    following,
    print_summary,
    print_table,
    print_verdict,
    show,
    waiting,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from configs.environment.config import DeployConfig
    from configs.metrics import Metrics
    from configs.paths import RunPaths
    from configs.run.config import RunConfig
    from configs.verdict import Verdict
    from eval.compare import ComparedFigure, ComparedReleases

Production = Annotated[
    str | None,
    typer.Option(
        help="the environment that it is judged for: by its gate, against what serves there; default: the config's"
    ),
]
Explain = Annotated[
    str | None,
    typer.Option(
        help="list, or a rule by its number, kind or name: what it asks, its method, this run's numbers; judges nothing"
    ),
]


def evaluate(
    context: typer.Context,
    config: Config,
    overrides: Sets = None,
    production: Production = None,
    as_json: AsJson = False,
) -> None:
    """Measure the release through vLLM, and what its gate compares it with (build/NAME/eval)."""
    from configs.check import refuse_gate

    run = read_run(config, overrides)
    refuse_gate(run, config, production)
    record = run_evaluate(run, context.obj.judged_for(production or run.production), context.obj.run_folds)
    if as_json:
        show(record, True)
    else:
        print_measured(record, run, following("gate", config, overrides))


def gate(
    context: typer.Context,
    config: Annotated[Path | None, typer.Argument(help="a RunConfig, as configs/finetune/smoke.yaml")] = None,
    overrides: Sets = None,
    production: Production = None,
    explain: Explain = None,
    as_json: AsJson = False,
) -> None:
    """Judge the evaluation by the config's rules. Exit 0 pass, 1 fail, 4 inconclusive (build/NAME/gate)."""
    from configs.check import refuse_gate
    from configs.verdict import EXIT_CODES
    from eval.report.headline import headline

    if explain is not None:
        run = read_run(config, overrides) if config else None
        typer.echo(explained(explain, run, context.obj.judged_for(production or run.production) if run else None))
        return
    if config is None:
        raise InputError("gate: found no config, expected one", hint="tunegate gate configs/finetune/smoke.yaml")
    run = read_run(config, overrides)
    refuse_gate(run, config, production)
    environment = context.obj.judged_for(production or run.production)
    context.obj.refuse_unservable(environment, run)
    verdict = run_gate(run, environment)
    typer.echo(verdict.model_dump_json(indent=2)) if as_json else print_verdict(verdict, headline(verdict))
    raise typer.Exit(EXIT_CODES[verdict.outcome])


def compare(
    release: Annotated[str, typer.Argument(help="build/NAME, a name, NAME@DIGEST or the beginning of a digest")],
    reference: Annotated[str, typer.Argument(help="the same")],
    metric: Annotated[
        str | None, typer.Option(help="the one shown by slices; default: the first with a value an example")
    ] = None,
    confidence: Annotated[float, typer.Option(min=0.51, max=0.999)] = 0.95,
    as_json: AsJson = False,
) -> None:
    """Two evaluated releases, paired on the same test rows as the gate pairs them: differences with intervals, what
    these show, and what could have been seen. Of m slices each at 1 - (1 - confidence) / m (Bonferroni)."""
    from eval.compare import compare_releases

    found = compare_releases(release, reference, confidence, metric, lambda line: typer.secho(line, err=True, dim=True))
    typer.echo(json.dumps(found, indent=2)) if as_json else print_comparison(found)


def add_commands(app: typer.Typer) -> None:
    app.command(epilog=example("tunegate evaluate configs/finetune/smoke.yaml --json"))(evaluate)
    app.command(
        epilog=example(
            "tunegate gate configs/finetune/calls-v2.yaml",
            "tunegate gate configs/finetune/calls-v2.yaml --production staging --json",
            "tunegate gate configs/finetune/calls-v2.yaml --explain non_inferior_to",
            "tunegate gate --explain list",
        )
    )(gate)
    app.command(
        epilog=example(
            "tunegate compare build/smoke build/sentiment",
            "tunegate compare calls-v2@f0b00a calls-v1 --metric valid_json --json",
        )
    )(compare)


def run_evaluate(
    run: RunConfig, production: DeployConfig | None, make_folds: Callable[[RunConfig], None] | None = None
) -> Metrics:
    """`production`: the environment that it is judged for, its `release` what serves there; `make_folds`: trains the
    models of evaluate.folds; `tunegate.py` knows both."""
    from configs.paths import RunPaths
    from eval.evaluate import evaluate

    return evaluate(run, RunPaths.of(run.name), production, make_folds)


def print_measured(record: Metrics, run: RunConfig, following: str) -> None:
    """A line a metric, then what they were measured on, and the command that follows."""
    from configs.paths import RunPaths

    print_table(
        [{"metric": name, "value": f"{value:.4g}"} for name, value in record["metrics"].items()], ["metric", "value"]
    )
    parity = record["parity"]
    print_summary(
        {
            "release": record["release"],
            "test rows": f"{record['n']:,}{by_folds(record)}",
            "parity": f"{parity['agreement']:.0%} of {parity['prompts']} golden prompts answered alike"
            if parity
            else "",
            "size": f"{record['size_bytes'] / 2**20:,.1f} MiB",
            "answers": RunPaths.of(run.name).evaluation / "predictions.parquet",
            "next": following,
        }
    )


def by_folds(record: Metrics) -> str:
    folds = record.get("folds")
    return f", each answered by the one of {len(folds['rows'])} models that had not seen it" if folds else ""


def run_gate(run: RunConfig, production: DeployConfig | None) -> Verdict:
    from configs.paths import RunPaths
    from eval import gate as stage

    paths = RunPaths.of(run.name)
    verdict = stage.run_gate(run, paths, production)
    track_evaluation(paths)
    return verdict


def track_evaluation(paths: RunPaths) -> None:
    """The MLflow run that training began gets what was measured and judged."""
    from infra.mlflow.tracking import resume_run

    training, metrics = (
        json.loads(path.read_text(encoding="utf8"))
        for path in (paths.trained / "training.json", paths.evaluation / "metrics.json")
    )
    with waiting("MLflow takes what was measured and judged"):
        tracker = resume_run(training["tracking_run_id"], paths.root / "tracking")
        tracker.log_tags({"tunegate.release": metrics["release"]})
        tracker.log_metrics(metrics["metrics"], training["steps"])
        for folder in (paths.evaluation, paths.gate):
            tracker.log_artifacts(folder)
        tracker.finish()


def explained(wanted: str, run: RunConfig | None, production: DeployConfig | None) -> str:
    """Without a run: the kinds of rules. With one: its gate's rules, decided again but not written down."""
    from eval.gate import gate_of, named_in, read_rules
    from eval.rules.decide import decide_rule
    from eval.rules.explain import EXPLANATIONS, choose, explain_kind, explain_result

    if run is None:
        width = max(map(len, EXPLANATIONS))
        return (
            "\n".join(f"{kind:<{width}}  {one.asks}" for kind, one in EXPLANATIONS.items())
            if wanted == "list"
            else explain_kind(wanted)
        )
    from configs.paths import RunPaths
    from eval.rules.evidence import gather

    rules = read_rules(gate_of(run, production))
    if wanted == "list":
        return "\n".join(f"{number:>3}  {rule.rule:<16} {rule.name}" for number, rule in enumerate(rules.rules, 1))
    chosen = choose(rules, wanted)
    evidence = gather(RunPaths.of(run.name), production, named_in(rules))
    kinds = dict.fromkeys(rule.rule for rule in chosen)
    return "\n\n".join([*map(explain_kind, kinds), *(explain_result(decide_rule(rule, evidence)) for rule in chosen)])


def print_comparison(found: ComparedReleases) -> None:
    """Two tables: metrics, then the slices of one. MDE: the least true difference that would be seen with 80% power."""
    from rich.console import Console

    from eval.rules.interval import percent

    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False, markup=False, soft_wrap=True)
    console.print(
        f"{found['release']}\n  against  {found['reference']}\n  on       {found['n']} examples of {found['dataset']}\n"
    )
    if found["metrics"]:
        console.print(table_of("metric", found["metrics"], percent(found["confidence"])))
    if found["slices"] and found["slice_confidence"]:
        title = f"{found['sliced_metric']} by slice"
        console.print(table_of(title, found["slices"], percent(found["slice_confidence"])))


def table_of(title: str, rows: list[ComparedFigure], confidence: str) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title, box=None, padding=(0, 2, 0, 0))
    for heading in ("n", "release", "reference", "difference", f"{confidence} interval", "shown", "p", "MDE"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(escape(str(row.get("metric") or row.get("name"))), *map(escape, cells(row)))
    return table


def cells(row: ComparedFigure) -> list[str]:
    if "difference" not in row:
        return ["", "", "", row["why_not"]]
    least = row.get("minimum_detectable_effect")
    return [
        f"{row['n']}",
        f"{row['value']:.4g}",
        f"{row['reference_value']:.4g}",
        f"{row['difference']:+.3f}",
        f"{row['low']:+.3f} to {row['high']:+.3f}",
        row["shown"],
        f"{row['p_value']:.3g}",
        f"{least:.3g}" if least is not None else "",
    ]
