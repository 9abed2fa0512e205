"""Options of `tunegate trace`."""

from __future__ import annotations

from typing import Annotated

import typer

from infra.terminal import AsJson, example, show, waiting


def trace(
    context: typer.Context,
    what: Annotated[
        str,
        typer.Argument(
            metavar="RELEASE",
            help="a reference, a digest or its first 12 digits, or an answer's headers; -: from stdin",
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """From an answer back to the merge request: environment, release, verdict, run, config, data, commit. Says what
    is missing, and what brings it."""
    import sys

    from infra.lineage.trace import for_machines, for_people, identify
    from infra.lineage.trace import trace as follow_back

    asked = identify(sys.stdin.read() if what == "-" else what)
    with waiting("git, MLflow and GitLab are asked"):
        links = follow_back(asked, context.obj.used_releases())
    if as_json:
        show(for_machines(links), as_json)
    else:
        typer.echo(for_people(links))


def add_commands(app: typer.Typer) -> None:
    app.command(
        epilog=example(
            "tunegate trace calls-v2@sha256:...",
            "tunegate trace 6ad974496ce5 --json",
            "tunegate trace 'x-tunegate-release: sha256:...'",
        )
    )(trace)
