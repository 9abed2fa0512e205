"""How the command line speaks: one value for people or for machines, one verdict, one environment by its name."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from configs.verdict import Verdict

AsJson = Annotated[bool, typer.Option("--json", help="machine-readable output")]
Why = Annotated[str | None, typer.Option("--why", help="the reason, for the record: tunegate audit list")]
Config = Annotated[Path, typer.Argument(help="a RunConfig, as configs/finetune/smoke.yaml")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="override a key: --set train.learning_rate=1e-4")]

REPEAT_SECONDS = 30.0  # between two lines where no spinner turns
_is_shown = threading.Lock()  # held by the outermost `waiting`


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


def show(value: dict[str, Any] | list[Any], as_json: bool) -> None:
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


@contextmanager
def waiting(what: str, usual_seconds: float | None = None) -> Iterator[None]:
    """Says on stderr what is waited for while the body runs: on a terminal a spinner with the seconds gone, else a line
    every 30 s. Within another one it says nothing."""
    if sys.stderr is None or sys.stderr.closed or not _is_shown.acquire(blocking=False):
        yield
        return
    begun = time.monotonic()

    def gone() -> str:
        usual = f" ({usual_seconds:.0f} s as a rule)" if usual_seconds else ""
        return f"{what}, {time.monotonic() - begun:.0f} s{usual}"

    try:
        with show_spinner(gone) if sys.stderr.isatty() else repeat_line(gone):
            yield
    finally:
        _is_shown.release()


@contextmanager
def show_spinner(text: Callable[[], str]) -> Iterator[None]:
    """A spinner with `text()`, gone without a trace at the end; what is written to stderr meanwhile stands above it."""
    from rich.console import Console
    from rich.live import Live
    from rich.spinner import Spinner

    spinner = Spinner("dots")

    def turn() -> Spinner:
        spinner.update(text=text())
        return spinner

    # stdout stays as it is: rich would send it to stderr
    with Live(get_renderable=turn, console=Console(stderr=True), transient=True, redirect_stdout=False):
        yield


@contextmanager
def repeat_line(text: Callable[[], str]) -> Iterator[None]:
    """A line with `text()` every 30 s, from a thread that ends no later than the process."""
    stream, is_over = sys.stderr, threading.Event()

    def repeat() -> None:
        while not is_over.wait(REPEAT_SECONDS):
            try:
                stream.write(f"still waiting: {text()}\n")
                stream.flush()
            except (OSError, ValueError):  # nobody reads it any longer
                return

    thread = threading.Thread(target=repeat, name="waiting", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(timeout=1)
