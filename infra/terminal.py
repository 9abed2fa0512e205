"""How the command line speaks: one value for people or for machines, one verdict, one environment by its name."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Annotated

import typer

from configs.errors import InputError

if TYPE_CHECKING:
    from configs.verdict import Verdict

AsJson = Annotated[bool, typer.Option("--json", help="machine-readable output")]
Why = Annotated[str | None, typer.Option("--why", help="the reason, for the record: tunegate audit list")]
Config = Annotated[Path, typer.Argument(help="a RunConfig, as configs/finetune/smoke.yaml")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="override a key: --set train.learning_rate=1e-4")]

REPEAT_SECONDS = 30.0  # between two lines where no spinner turns
TOLD: list[Callable[[], str]] = []  # what is waited for, the outermost first


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


def following(command: str, config: Path, overrides: Sequence[str] | None) -> str:
    """The next command to type, with the same overrides."""
    return shlex.join(["tunegate", command, str(config), *(word for one in overrides or () for word in ("--set", one))])


def show(value: Mapping[str, object] | Sequence[Mapping[str, object]], as_json: bool) -> None:
    """One value for machines, or for people where no summary of its own is written: a line a key, a table for a
    list."""
    if as_json:
        typer.echo(json.dumps(value, indent=2, default=str))
    elif isinstance(value, Mapping):
        print_summary({key: item if isinstance(item, str | list) else cell(item) for key, item in value.items()})
    else:
        print_table(value, list(dict.fromkeys(key for row in value for key in row)))


def print_summary(lines: Mapping[str, object]) -> None:
    """`label  value`, a line each, of a list one an item; nothing for a value that is None or empty. Texts stay whole:
    paths and commands are copied from here."""
    said = {label: value for label, value in lines.items() if value not in (None, "", [])}
    width = max(map(len, said), default=0)
    for label, value in said.items():
        for number, item in enumerate(value if isinstance(value, list) else [value]):
            head = "" if number else label.replace("_", " ")
            typer.echo(f"{head:>{width}}  {item if isinstance(item, str) else cell(item)}")


def print_table(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> None:
    """One line a row, as wide as the terminal (COLUMNS) at most: what is too long is shortened in the middle, the
    widest column first, and the first column, which says what the row is about, last. `--json` prints all of it."""
    if not rows:
        typer.echo("none")
        return
    heads = [column.replace("_", " ") for column in columns]
    texts = [[cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *texts, strict=True)]
    space = get_terminal_size((120, 24)).columns - 2 * (len(columns) - 1)
    while sum(widths) > space and max(widths) > 4:
        others = range(1, len(widths)) if max(widths[1:], default=0) > 8 else range(len(widths))
        widths[max(others, key=widths.__getitem__)] -= 1
    for number, line in enumerate([heads, *texts]):
        cells = [shorten(text, width).ljust(width) for text, width in zip(line, widths, strict=True)]
        typer.secho("  ".join(cells).rstrip(), bold=number == 0)


def cell(item: object) -> str:
    """One line for people: digests by their first twelve digits, moments to the second, `-` for nothing."""
    if item in (None, "", [], {}):
        return "-"
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, Mapping):
        return ", ".join(f"{key} {cell(value)}" for key, value in item.items())
    if isinstance(item, list | tuple):
        return ", ".join(map(cell, item))
    text = " ".join(str(item).split())
    text = re.sub(r"(?<=\d\d:\d\d:\d\d)(\.\d+)?(\+00:00|Z)", "Z", text)
    return re.sub(r"(sha256:)?\b([0-9a-f]{12})[0-9a-f]{20,52}\b", r"\2", text)


def shorten(text: str, width: int) -> str:
    """`configs/…/local.yaml`: the beginning and the end tell most."""
    if len(text) <= width:
        return text
    end = (width - 1) // 2
    return f"{text[: width - 1 - end]}…{text[len(text) - end :]}"


def print_problems(problems: Iterable[object]) -> None:
    for problem in problems:
        typer.secho(str(problem), err=True, fg="red")


def print_verdict(verdict: Verdict, headline: str | None = None) -> None:
    """A line a rule, then the headline of its report, where it has one."""
    colours = {"pass": "green", "fail": "red", "inconclusive": "yellow"}
    for result in verdict.results:
        typer.secho(f"{result.outcome:>12}", fg=colours[result.outcome], nl=False)
        typer.echo(f"  {result.rule}: {result.sentence}")
    typer.secho(f"{verdict.outcome:>12}", fg=colours[verdict.outcome], bold=True, nl=False)
    typer.echo(f"  {verdict.release}")
    if verdict.held_out:
        typer.echo(verdict.held_out.sentence())
    if headline:
        typer.secho(headline, fg=colours[verdict.outcome], bold=True)


@contextmanager
def waiting(what: str, usual_seconds: float | None = None) -> Iterator[None]:
    """Says on stderr what is waited for while the body runs: on a terminal a spinner with the seconds gone, else a line
    every 30 s. Of waits within each other the innermost is told."""
    begun = time.monotonic()

    def gone() -> str:
        head = "" if is_terminal() else "still waiting: "
        usual = f" ({usual_seconds:.0f} s as a rule)" if usual_seconds else ""
        return f"{head}{what}, {time.monotonic() - begun:.0f} s{usual}"

    with told(gone, spins=True):
        yield


@contextmanager
def telling(text: Callable[[], str]) -> Iterator[None]:
    """For a body with a bar of its own, which only a terminal shows: elsewhere `text()` is a line every 30 s."""
    with told(text, spins=False):
        yield


@contextmanager
def told(text: Callable[[], str], *, spins: bool) -> Iterator[None]:
    """The outermost one speaks, for all within it; nobody where stderr is closed."""
    speaks = not TOLD and sys.stderr is not None and not sys.stderr.closed and (spins or not is_terminal())
    TOLD.append(text)
    try:
        with (show_spinner() if is_terminal() else repeat_line()) if speaks else contextlib.nullcontext():
            yield
    finally:
        TOLD.remove(text)


def silence() -> None:
    """From here on this process leaves it to another one to tell what is waited for."""
    TOLD.append(str)


def is_terminal() -> bool:
    return sys.stderr is not None and not sys.stderr.closed and sys.stderr.isatty()


def innermost() -> str:
    return TOLD[-1]() if TOLD else ""


@contextmanager
def show_spinner() -> Iterator[None]:
    """Gone without a trace at the end; what is written to stderr meanwhile stands above it."""
    from rich.console import Console
    from rich.live import Live
    from rich.spinner import Spinner

    spinner = Spinner("dots")

    def turn() -> Spinner:
        spinner.update(text=innermost())
        return spinner

    # stdout stays as it is: rich would send it to stderr
    with Live(get_renderable=turn, console=Console(stderr=True), transient=True, redirect_stdout=False):
        yield


@contextmanager
def repeat_line() -> Iterator[None]:
    """Every 30 s, from a thread that ends no later than the process."""
    stream, is_over = sys.stderr, threading.Event()

    def repeat() -> None:
        while not is_over.wait(REPEAT_SECONDS):
            try:
                stream.write(f"{innermost()}\n")
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


UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def seconds_of(text: str) -> int:
    """ "90d" is 7,776,000. Raises InputError for what is no time."""
    found = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if not found:
        raise InputError(
            f"found the time {text!r}, expected a number and s, m, h or d, such as 90d", hint="7d, 24h, 30m, 60s"
        )
    return int(found[1]) * UNITS[found[2]]
