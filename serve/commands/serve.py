"""Options of `serve` and `loadtest`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infra.terminal import AsJson, EnvironmentName, example, print_verdict, show, waiting
from serve.commands.context import open_environment


def serve(
    directory: Path,
    port: Annotated[int, typer.Option(help="on 127.0.0.1")] = 8000,
    public_key: Annotated[str | None, typer.Option(help="PEM file: only a release that this key has signed")] = None,
) -> None:
    """Serve one release by vLLM in the foreground, with the arguments of production. Ctrl-C ends it."""
    from serve.foreground import serve_release

    serve_release(directory, port, public_key)


def loadtest(
    context: typer.Context,
    environment: EnvironmentName,
    release: Annotated[
        Path | None, typer.Option(help="a release directory: served for the test, the router left alone")
    ] = None,
    users: Annotated[int | None, typer.Option(min=1, help="closed loop")] = None,
    seconds: Annotated[int | None, typer.Option(min=1)] = None,
    rate: Annotated[float | None, typer.Option(help="open loop: requests a second, Poisson arrivals")] = None,
    ramp: Annotated[str | None, typer.Option(help="open loop, to find the knee: rates, as 1,2,4,8")] = None,
    trace: Annotated[str | None, typer.Option(help="open loop: sampled requests to replay, .jsonl or .parquet")] = None,
    trace_speed: Annotated[float | None, typer.Option(help="2: twice as fast as recorded")] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="locust's workers")] = None,
    as_json: AsJson = False,
) -> None:
    """Load-test what serves, through the router, and judge it by the environment's load rules. Writes report.html."""
    from configs.verdict import EXIT_CODES
    from serve.loadtest import load_test

    flags = {
        "users": users,
        "seconds": seconds,
        "rate": rate,
        "trace": trace,
        "trace_speed": trace_speed,
        "processes": processes,
    }
    given = {name: value for name, value in flags.items() if value is not None} | (
        {"ramp": ramp.split(",")} if ramp else {}
    )
    env = open_environment(context, environment)
    with waiting("the load test runs", seconds or env.config.load_test.seconds):
        figures, verdict, page = load_test(env, release, given)
    show(figures | {"verdict": verdict.outcome, "report": str(page)}, as_json)
    if not as_json:
        print_verdict(verdict)
    raise typer.Exit(EXIT_CODES[verdict.outcome])


def add_commands(app: typer.Typer) -> None:
    app.command(
        epilog=example("tunegate serve build/smoke/release", "tunegate serve build/calls-v1/release --port 8001")
    )(serve)
    app.command(
        epilog=example(
            "tunegate loadtest local --users 16 --seconds 60",
            "tunegate loadtest local --ramp 1,2,4,8",
            "tunegate loadtest local --release DIR",
        )
    )(loadtest)
