"""The operator's commands for what is under way: status, receipt, pause, resume, abort, hold, agent."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from configs.console import AsJson, example, read_environment, show

if TYPE_CHECKING:
    from configs.deploy import DeployConfig
    from serve.environment import Environment

Name = Annotated[str, typer.Argument(metavar="ENV", help="an environment: its name under configs/deploy, or a YAML file")]


def add_operator_commands(app: typer.Typer, operate: Callable[[DeployConfig], Environment]) -> None:
    @app.command(epilog=example("tunegate status local", "tunegate status local --json"))
    def status(environment: Name, as_json: AsJson = False) -> None:
        """Slots, releases, shares, open streams, what comes next, last events."""
        from serve.status import as_tables
        from serve.status import status as look

        seen = look(operate(read_environment(environment)))
        if as_json:
            show(seen, as_json)
            return
        from rich.console import Console

        Console().print(as_tables(seen))

    @app.command(epilog=example("tunegate receipt local", "tunegate receipt local --list", "tunegate receipt local --json"))
    def receipt(environment: Name, every: Annotated[bool, typer.Option("--list", help="one line a deploy")] = False, as_json: AsJson = False) -> None:
        """What became of every stream and request of the last deploy."""
        from serve.receipt import in_one_line, last_receipt, read_receipts

        env = operate(read_environment(environment))
        if not every:
            show(last_receipt(env), as_json)
        elif as_json:
            show(read_receipts(env), as_json)
        else:
            for one in read_receipts(env):
                typer.echo(in_one_line(one))

    @app.command(epilog=example("tunegate pause local"))
    def pause(environment: Name, as_json: AsJson = False) -> None:
        """Stay at the present step: nothing goes further until resume; what dies is still brought back."""
        from serve import verbs

        show(verbs.pause(operate(read_environment(environment))), as_json)

    @app.command(epilog=example("tunegate resume local"))
    def resume(environment: Name, as_json: AsJson = False) -> None:
        """Go on after pause, hold, or after three crashes that called for a person."""
        from serve import verbs

        show(verbs.resume(operate(read_environment(environment))), as_json)

    @app.command(epilog=example("tunegate abort local"))
    def abort(environment: Name, as_json: AsJson = False) -> None:
        """Back to what served before, while a deploy is under way or in its bake; the new server is stopped."""
        from serve import verbs

        show(verbs.abort(operate(read_environment(environment))), as_json)

    @app.command(epilog=example("tunegate hold local"))
    def hold(environment: Name, as_json: AsJson = False) -> None:
        """Keep what serves, whatever the YAML pins, until resume."""
        from serve import verbs

        show(verbs.hold(operate(read_environment(environment))), as_json)

    @app.command(epilog=example("tunegate agent local", "tunegate agent local --once", "tunegate agent local --interval 5"))
    def agent(
        environment: Name,
        once: Annotated[bool, typer.Option("--once", help="one turn, then end")] = False,
        interval: Annotated[float | None, typer.Option(min=0.1, help="seconds between two looks; else supervision.interval_seconds")] = None,
    ) -> None:
        """Keep the environment as its YAML says: deploy what it pins, bring back what dies. SIGTERM ends it; what serves serves on."""
        from serve.agent import Agent, end_on_sigterm

        end_on_sigterm()
        Agent(operate(read_environment(environment)), lambda: read_environment(environment)).run(interval, once=once)
