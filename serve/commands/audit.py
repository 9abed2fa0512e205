"""The auditor's commands: audit list and verify. Both only look."""

from __future__ import annotations

from typing import Annotated

import typer

from infra.terminal import AsJson, EnvironmentName, example, print_table, show
from serve.commands.context import open_environment

COLUMNS = ("at", "what", "slot", "by", "why", "commit")


def list_rows(
    context: typer.Context,
    environment: EnvironmentName,
    limit: Annotated[int | None, typer.Option(min=0, help="only the last N")] = None,
    as_json: AsJson = False,
) -> None:
    """Deploys, promotions, rollbacks, key changes and what came of them: who, what, when, why, from which
    commit."""
    from serve.view.audit import audit

    rows = audit(open_environment(context, environment).record.read())
    rows = rows if limit is None else rows[max(0, len(rows) - limit) :]
    if as_json:
        show(rows, True)
    else:
        print_table(rows, COLUMNS)


def verify_record(
    context: typer.Context,
    environment: EnvironmentName,
    head: Annotated[
        str | None, typer.Option(help="a seal printed earlier and kept elsewhere: it must still be in the record")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Follow the seals of the record; exit 1 names the first line that was edited, removed or moved."""
    from serve.view.audit import verify

    found = verify(open_environment(context, environment), head)
    facts = {
        "sealed_lines": len(found.seals),
        "lines_before_seals": found.earlier,
        "torn_last_line": found.torn,
        "head": found.seals[-1],
    }
    show(facts, as_json)


def add_commands(app: typer.Typer) -> None:
    group = typer.Typer(
        no_args_is_help=True,
        rich_markup_mode=None,
        help="Who did what, and whether the record was touched: tunegate audit verify local",
    )
    app.add_typer(group, name="audit")
    group.command("list", epilog=example("tunegate audit list local --limit 20", "tunegate audit list local --json"))(
        list_rows
    )
    group.command("verify", epilog=example("tunegate audit verify local", "tunegate audit verify local --head SEAL"))(
        verify_record
    )
