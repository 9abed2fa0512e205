"""The judge's commands of the front door: evaluate, gate, compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from configs.console import AsJson, Config, Sets, example, print_verdict, read_environment, read_run, show
from configs.errors import InputError

if TYPE_CHECKING:
    from configs.paths import RunPaths
    from configs.schema import RunConfig
    from configs.verdict import Verdict

Production = Annotated[str | None, typer.Option(help="the environment whose release is the champion; default: the config's")]
Explain = Annotated[str | None, typer.Option(help="list, or a rule by its number, kind or name: what it asks, its method, this run's numbers; judges nothing")]


def add_commands(app: typer.Typer) -> None:
    @app.command(epilog=example("tunegate evaluate configs/finetune/smoke.yaml --json"))
    def evaluate(config: Config, overrides: Sets = None, production: Production = None, as_json: AsJson = False) -> None:
        """Measure the release through vLLM, and what its gate compares it with (build/NAME/eval)."""
        show(run_evaluate(read_run(config, overrides), production), as_json)

    @app.command(
        epilog=example(
            "tunegate gate configs/finetune/calls-v2.yaml",
            "tunegate gate configs/finetune/calls-v2.yaml --production staging --json",
            "tunegate gate configs/finetune/calls-v2.yaml --explain non_inferior_to",
            "tunegate gate --explain list",
        )
    )
    def gate(
        config: Annotated[Path | None, typer.Argument(help="a RunConfig, as configs/finetune/smoke.yaml")] = None,
        overrides: Sets = None,
        production: Production = None,
        explain: Explain = None,
        as_json: AsJson = False,
    ) -> None:
        """Judge the evaluation by the config's rules. Exit 0 pass, 1 fail, 4 inconclusive (build/NAME/gate)."""
        from configs.verdict import EXIT_CODES

        if explain is not None:
            typer.echo(explained(explain, read_run(config, overrides) if config else None, production))
            return
        if config is None:
            raise InputError("gate: found no config, expected one", hint="tunegate gate configs/finetune/smoke.yaml")
        verdict = run_gate(read_run(config, overrides), production)
        typer.echo(verdict.model_dump_json(indent=2)) if as_json else print_verdict(verdict)
        raise typer.Exit(EXIT_CODES[verdict.outcome])

    @app.command(epilog=example("tunegate compare build/smoke build/sentiment", "tunegate compare calls-v2@f0b00a calls-v1 --metric valid_json --json"))
    def compare(
        release: Annotated[str, typer.Argument(help="build/NAME, a name, NAME@DIGEST or the beginning of a digest")],
        reference: Annotated[str, typer.Argument(help="the same")],
        metric: Annotated[str | None, typer.Option(help="the one shown by slices; default: the first with a value an example")] = None,
        confidence: Annotated[float, typer.Option(min=0.51, max=0.999)] = 0.95,
        as_json: AsJson = False,
    ) -> None:
        """Two evaluated releases, paired on the same test rows: differences with intervals, p, and what could have been seen."""
        from eval.versus import compare_releases

        found = compare_releases(release, reference, confidence, metric, lambda line: typer.secho(line, err=True, dim=True))
        typer.echo(json.dumps(found, indent=2)) if as_json else print_comparison(found)


def run_evaluate(run: RunConfig, production: str | None) -> dict[str, Any]:
    from configs.paths import RunPaths
    from eval.evaluate import evaluate

    return evaluate(run, RunPaths.of(run.name), read_environment(production or run.production))


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


def explained(wanted: str, run: RunConfig | None, production: str | None) -> str:
    """Without a run: the kinds of rules. With one: its gate's rules, decided again but not written down."""
    from eval.explain import EXPLANATIONS, choose, explain_kind, explain_result
    from eval.gate import decide_rule, named_in, read_rules

    if run is None:
        width = max(map(len, EXPLANATIONS))
        return "\n".join(f"{kind:<{width}}  {one.asks}" for kind, one in EXPLANATIONS.items()) if wanted == "list" else explain_kind(wanted)
    from configs.paths import RunPaths
    from eval.evidence import gather

    rules = read_rules(Path(run.gate))
    if wanted == "list":
        return "\n".join(f"{number:>3}  {rule.rule:<16} {rule.name}" for number, rule in enumerate(rules.rules, 1))
    chosen = choose(rules, wanted)
    evidence = gather(RunPaths.of(run.name), read_environment(production or run.production), named_in(rules))
    kinds = dict.fromkeys(rule.rule for rule in chosen)
    return "\n\n".join([*map(explain_kind, kinds), *(explain_result(decide_rule(rule, evidence)) for rule in chosen)])


def print_comparison(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(f"{found['release']}\n  against {found['reference']}\n  on {found['n']} examples of {found['dataset']}", highlight=False, markup=False)
    tables = {"metric": found["metrics"], f"{found['sliced_metric']} by slice": found["slices"]}
    for title, rows in tables.items():
        if not rows:
            continue
        table = Table(title, "n", "release", "reference", "difference", f"{found['confidence']:.0%} interval", "p", "Holm p", "would be seen at 80% power")
        for row in rows:
            table.add_row(*cells(row), end_section=False)
        console.print(table)


def cells(row: dict[str, Any]) -> list[str]:
    from rich.markup import escape

    name = escape(str(row.get("metric") or row.get("name")))
    if "difference" not in row:
        return [name, "", "", "", escape(row["why_not"])]
    least, adjusted = row.get("minimum_detectable_effect"), row.get("p_adjusted")
    figures = [f"{row['n']}", f"{row['value']:.4g}", f"{row['reference_value']:.4g}", f"{row['difference']:+.4f}", f"{row['low']:+.4f} … {row['high']:+.4f}"]
    return [name, *figures, f"{row['p_value']:.3g}", f"{adjusted:.3g}" if adjusted is not None else "", f"{least:.3g}" if least is not None else ""]
