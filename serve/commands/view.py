"""The operator's commands that only look, and need no lock: status, receipt, events, logs, usage, samples."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from configs.errors import InputError
from configs.read import environment_path
from infra.terminal import AsJson, EnvironmentName, example, print_table, seconds_of, show
from serve.commands.context import open_environment

if TYPE_CHECKING:
    from serve.view.usage import By

Follow = Annotated[bool, typer.Option("--follow", "-f", help="print what comes as well, until Ctrl-C")]


def status(
    context: typer.Context,
    environment: EnvironmentName,
    watch: Annotated[
        bool,
        typer.Option("--watch", "-w", help="look again and again, until Ctrl-C; with the times to the first token"),
    ] = False,
    interval: Annotated[float, typer.Option(min=0.1, help="seconds between two looks of --watch")] = 2,
    check: Annotated[
        bool,
        typer.Option("--check", help="exit 1, naming both, where what serves is not the release that the YAML pins"),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Slots, releases, shares, open streams, what comes next, last events."""
    from rich.console import Console

    from serve.view.status import as_tables
    from serve.view.status import status as look

    if watch:
        from serve.view.live import View, print_lines, show_live

        view, console = View(lambda: open_environment(context, environment)), Console()
        with ends_by_interrupt():
            if console.is_terminal and not as_json:
                show_live(view, console, interval)
            print_all(print_lines(view, interval, as_json))
    env = open_environment(context, environment)
    seen = look(env)
    if check:
        from serve.record.drift import check_served

        typer.echo(check_served(seen, env.config.release, str(environment_path(environment))))
    elif as_json:
        show(seen, as_json)
    else:
        Console().print(as_tables(seen))


def receipt(
    context: typer.Context,
    environment: EnvironmentName,
    every: Annotated[bool, typer.Option("--list", help="one line a deploy")] = False,
    as_json: AsJson = False,
) -> None:
    """What became of every stream and request of the last deploy."""
    from serve.record.receipt import for_people, in_one_line, last_receipt, read_receipts

    env = open_environment(context, environment)
    if as_json:
        show(read_receipts(env) if every else last_receipt(env), as_json)
    elif every:
        for one in read_receipts(env):
            typer.echo(in_one_line(one))
    else:
        for name, value in for_people(last_receipt(env)).items():
            first, *others = value.split("\n")
            typer.echo("\n".join([f"{name:>27}  {first}", *(f"{'':27}  {line}" for line in others)]))


def events(
    context: typer.Context,
    environment: EnvironmentName,
    kind: Annotated[
        list[str] | None, typer.Option(help="only these, as switched, refused, crashed, paged; none: every kind")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=0, help="of those recorded so far only the last N")] = None,
    follow: Follow = False,
    as_json: AsJson = False,
) -> None:
    """The append-only record, a line an event: moment (UTC), slot, kind, facts. With --json one JSON object a
    line."""
    from serve.record.event import in_one_line
    from serve.view.events import read_events

    found = read_events(open_environment(context, environment), kind or (), limit, follow=follow)
    print_all(event.model_dump_json() if as_json else in_one_line(event) for event in found)


def logs(
    context: typer.Context,
    environment: EnvironmentName,
    slot: Annotated[str, typer.Option(help="green, blue, router or agent", autocompletion=complete_log)],
    server: Annotated[
        int | None, typer.Option(min=1, help="of the slot's servers only this one; none: all, each line after its name")
    ] = None,
    lines: Annotated[int, typer.Option(min=0, help="of what each has written so far only the last N")] = 100,
    follow: Follow = False,
) -> None:
    """What a slot's vLLM servers, the router's HAProxy or the agent itself have said."""
    from serve.view.logs import logs_of, read_logs

    found = logs_of(open_environment(context, environment), slot, server)
    print_all(read_logs(found, lines, follow=follow))


def usage(
    context: typer.Context,
    environment: EnvironmentName,
    by: Annotated[str, typer.Option(help="key, release, path or day", autocompletion=complete_by)] = "key",
    since: Annotated[str, typer.Option(help="as 7d, 24h, 30m")] = "30d",
    as_json: AsJson = False,
) -> None:
    """Tokens that keys really used, as the model servers counted them, of streams too."""
    from serve.view.usage import BY, usage

    if by not in BY:
        raise InputError(f"found --by {by!r}, expected one of {', '.join(BY)}", hint="tunegate usage --help")
    now = time.time()
    rows = usage(open_environment(context, environment), cast("By", by), now - seconds_of(since), now)
    if as_json:
        show(rows, True)
        return
    print_table(
        [{by: row["group"], **row} for row in rows], (by, "requests", "left", "prompt_tokens", "completion_tokens")
    )


def samples(
    context: typer.Context,
    environment: EnvironmentName,
    output: Annotated[Path, typer.Argument(help="a .parquet file")],
    as_json: AsJson = False,
) -> None:
    """Sampled requests and answers of every slot, oldest first, in one file: for monitoring, or as a load test's
    trace."""
    from serve.load.samples import read_trace, write_parquet

    rows = sorted(
        read_trace(open_environment(context, environment).folder / "samples"),
        key=lambda row: float(row["at"]),
    )
    write_parquet(rows, output)
    show({"samples": len(rows), "file": str(output)}, as_json)


def add_commands(app: typer.Typer) -> None:
    app.command(
        epilog=example(
            "tunegate status local",
            "tunegate status local --watch",
            "tunegate status local --check",
            "tunegate status local --json",
        )
    )(status)
    app.command(
        epilog=example("tunegate receipt local", "tunegate receipt local --list", "tunegate receipt local --json")
    )(receipt)
    app.command(
        epilog=example(
            "tunegate events local --limit 20",
            "tunegate events local --kind switched --kind refused --json",
            "tunegate events local --follow",
        )
    )(events)
    app.command(
        epilog=example(
            "tunegate logs local --slot green",
            "tunegate logs local --slot blue --follow",
            "tunegate logs local --slot blue --server 2",
            "tunegate logs local --slot agent --lines 20",
        )
    )(logs)
    app.command(
        epilog=example(
            "tunegate usage local", "tunegate usage local --by release --since 24h", "tunegate usage local --json"
        )
    )(usage)
    app.command(
        epilog=example("tunegate samples local samples.parquet", "tunegate loadtest local --trace samples.parquet")
    )(samples)


def complete_by(incomplete: str) -> list[str]:
    return [name for name in ("key", "release", "path", "day") if name.startswith(incomplete)]


def complete_log(incomplete: str) -> list[str]:
    from serve.view.logs import LOGS

    return [name for name in LOGS if name.startswith(incomplete)]


def print_all(lines: Iterable[str]) -> None:
    with ends_by_interrupt():
        for line in lines:
            typer.echo(line)


@contextmanager
def ends_by_interrupt() -> Iterator[None]:
    """Ctrl-C is how looking ends, so it ends well: nothing was under way."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit from None
