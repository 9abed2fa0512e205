"""How the command line speaks: one value for people or for machines, one verdict, one environment by its name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from configs.verdict import Verdict

AsJson = Annotated[bool, typer.Option("--json", help="machine-readable output")]
Why = Annotated[str | None, typer.Option("--why", help="the reason, for the record: tunegate audit list")]
Config = Annotated[Path, typer.Argument(help="a RunConfig, as configs/finetune/smoke.yaml")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="override a key: --set train.learning_rate=1e-4")]


def complete_environment(incomplete: str) -> list[str]:
    """For the shell's TAB."""
    return sorted(path.stem for path in Path("configs/deploy").glob("*.yaml") if path.stem.startswith(incomplete))


EnvironmentName = Annotated[
    str,
    typer.Argument(
        metavar="ENV",
        help="an environment: its name under configs/deploy, or a YAML file",
        autocompletion=complete_environment,
    ),
]


def example(*lines: str) -> str:
    return "Examples:\n\n" + "\n\n".join(lines)


def show(value: Mapping[str, object] | list[Any], as_json: bool) -> None:
    """One value for people (a line a key) or for machines."""
    if as_json:
        typer.echo(json.dumps(value, indent=2, default=str))
        return
    for row in value if isinstance(value, list) else [value]:
        for key, item in row.items():
            typer.echo(f"{key:>24}  {brief(item)}")
        if isinstance(value, list):
            typer.echo("")


def brief(item: Any) -> str:
    """One line; of a long list or a longer mapping only how long it is."""
    if not isinstance(item, dict | list):
        return str(item)
    text = json.dumps(item, default=str)
    return (
        text if len(text) <= (2_000 if isinstance(item, dict) else 400) else f"{len(item)} entries (--json shows them)"
    )


def print_verdict(verdict: Verdict) -> None:
    colours = {"pass": "green", "fail": "red", "inconclusive": "yellow"}
    for result in verdict.results:
        typer.secho(f"{result.outcome:>12}", fg=colours[result.outcome], nl=False)
        typer.echo(f"  {result.rule}: {result.sentence}")
    typer.secho(f"{verdict.outcome:>12}", fg=colours[verdict.outcome], bold=True, nl=False)
    typer.echo(f"  {verdict.release}")
