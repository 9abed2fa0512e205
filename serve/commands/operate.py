"""The operator's commands to what is under way: pause, resume, abort, hold, agent. Those that only look:
serve/commands/view.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from configs.environment.config import environment_path, read_environment
from configs.errors import InputError
from infra.terminal import AsJson, EnvironmentName, Why, example, show

if TYPE_CHECKING:
    from configs.environment.config import DeployConfig
    from serve.record.environment import Environment


def add_operator_commands(app: typer.Typer, open_environment: Callable[[DeployConfig], Environment]) -> None:
    @app.command(epilog=example("tunegate pause local"))
    def pause(environment: EnvironmentName, as_json: AsJson = False) -> None:
        """Stay at the present step: nothing goes further until resume; what dies is still brought back."""
        from serve import operate

        show(operate.pause(open_environment(read_environment(environment))), as_json)

    @app.command(epilog=example("tunegate resume local"))
    def resume(environment: EnvironmentName, as_json: AsJson = False) -> None:
        """Go on after pause, hold, or after three crashes that called for a person."""
        from serve import operate

        show(operate.resume(open_environment(read_environment(environment))), as_json)

    @app.command(epilog=example("tunegate abort local"))
    def abort(environment: EnvironmentName, as_json: AsJson = False) -> None:
        """Back to what served before, while a deploy is under way or in its bake; the new server is stopped."""
        from serve import operate

        show(operate.abort(open_environment(read_environment(environment))), as_json)

    @app.command(epilog=example("tunegate hold local"))
    def hold(environment: EnvironmentName, why: Why = None, as_json: AsJson = False) -> None:
        """Keep what serves, whatever the YAML pins, until resume."""
        from serve import operate

        show(operate.hold(replace(open_environment(read_environment(environment)), why=why)), as_json)

    add_agent(app, open_environment)


def add_agent(app: typer.Typer, open_environment: Callable[[DeployConfig], Environment]) -> None:
    @app.command(
        epilog=example(
            "tunegate agent local",
            "tunegate agent local --once",
            "tunegate agent production --pull origin/main --signers /etc/tunegate/signers",
        )
    )
    def agent(
        environment: EnvironmentName,
        once: Annotated[bool, typer.Option("--once", help="one turn, then end")] = False,
        interval: Annotated[
            float | None, typer.Option(min=0.1, help="seconds between two looks; else supervision.interval_seconds")
        ] = None,
        pull: Annotated[
            str | None,
            typer.Option(
                metavar="[REMOTE/]BRANCH",
                help="take the YAML from this branch, forward only; the agent runs in its clone",
            ),
        ] = None,
        signers: Annotated[
            Path | None,
            typer.Option(
                help="take only commits signed by these keys: git's allowed_signers file, outside of the clone"
            ),
        ] = None,
        poll: Annotated[
            float,
            typer.Option(
                min=0.1, help="seconds between two fetches; longer while the remote does not answer, up to five minutes"
            ),
        ] = 15,
        webhook: Annotated[
            int | None,
            typer.Option(
                metavar="PORT", help="on 127.0.0.1: a push event wakes the agent; the secret is TUNEGATE_WEBHOOK_TOKEN"
            ),
        ] = None,
    ) -> None:
        """Keep the environment as its YAML says: deploy what it pins, bring back what dies. SIGTERM ends it; what
        serves serves on."""
        from serve.agent import Agent, end_on_sigterm
        from serve.gitops.follow import NoGitSync, follow
        from serve.gitops.webhook import listen
        from serve.view.logs import LOGS, keeping

        if pull is None and (signers or webhook):
            raise InputError(
                "--signers and --webhook are about the branch of --pull, which is not given",
                hint=f"tunegate agent {environment} --pull origin/main",
            )
        end_on_sigterm()
        git = follow(pull, environment_path(environment), signers, poll) if pull else NoGitSync()
        env = open_environment(read_environment(environment))
        if webhook:
            listen(webhook, git.trigger)
        Agent(
            replace(env, report_progress=keeping(env.report_progress, env.folder / LOGS["agent"])),
            lambda: read_environment(environment),
            git,
        ).run(interval, once=once)
