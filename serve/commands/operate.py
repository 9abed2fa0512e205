"""The operator's commands to what is under way: pause, resume, abort, hold, agent. Those that only look:
serve/commands/view.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from configs.errors import InputError
from configs.read import environment_path, read_environment
from infra.terminal import AsJson, EnvironmentName, Why, example
from serve.commands.context import open_environment, show_result


def pause(context: typer.Context, environment: EnvironmentName, as_json: AsJson = False) -> None:
    """Stay at the present step: nothing goes further until resume; what dies is still brought back."""
    from serve import operate

    show_result(operate.pause(open_environment(context, environment)), as_json)


def resume(context: typer.Context, environment: EnvironmentName, as_json: AsJson = False) -> None:
    """Go on after pause, hold, an inconclusive watch, or after three crashes that called for a person."""
    from serve import operate
    from serve.supervise import supervised

    env = open_environment(context, environment)
    with supervised(env, environment):
        found = operate.resume(env)
    show_result(found, as_json)


def abort(context: typer.Context, environment: EnvironmentName, as_json: AsJson = False) -> None:
    """Back to what served before, while a deploy is under way or in its bake; the new server is stopped."""
    from serve import operate
    from serve.supervise import supervised

    env = open_environment(context, environment)
    with supervised(env, environment):
        found = operate.abort(env)
    show_result(found, as_json)


def hold(context: typer.Context, environment: EnvironmentName, why: Why = None, as_json: AsJson = False) -> None:
    """Keep what serves, whatever the YAML pins, until resume."""
    from serve import operate
    from serve.supervise import supervised

    env = open_environment(context, environment, why)
    with supervised(env, environment):
        found = operate.hold(env)
    show_result(found, as_json)


def agent(
    context: typer.Context,
    environment: EnvironmentName,
    once: Annotated[bool, typer.Option("--once", help="one turn, then end")] = False,
    supervise: Annotated[
        bool,
        typer.Option(
            "--supervise",
            help="only bring back what dies, and take up no change of the YAML: what a deploy leaves behind",
        ),
    ] = False,
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
        typer.Option(help="take only commits signed by these keys: git's allowed_signers file, outside of the clone"),
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
    from serve.record.environment import SUPERVISOR
    from serve.supervise import without_pin
    from serve.view.logs import LOGS, keeping

    if pull is None and (signers or webhook):
        raise InputError(
            "--signers and --webhook are about the branch of --pull, which is not given",
            hint=f"tunegate agent {environment} --pull origin/main",
        )
    if supervise and (pull or once):
        raise InputError(
            "--supervise takes up no pin: neither --pull nor --once goes with it", hint=f"tunegate agent {environment}"
        )
    end_on_sigterm()
    git = follow(pull, environment_path(environment), signers, poll) if pull else NoGitSync()
    env = open_environment(context, environment)
    if webhook:
        listen(webhook, git.trigger)
    kept = replace(env, report_progress=keeping(env.report_progress, env.folder / LOGS["agent"]))
    if supervise:
        alone = replace(kept, config=without_pin(env.config))
        Agent(alone, lambda: alone.config).run(interval, command=SUPERVISOR)
    Agent(kept, lambda: read_environment(environment), git).run(interval, once=once)


def add_commands(app: typer.Typer) -> None:
    app.command(epilog=example("tunegate pause local"))(pause)
    app.command(epilog=example("tunegate resume local"))(resume)
    app.command(epilog=example("tunegate abort local"))(abort)
    app.command(epilog=example("tunegate hold local"))(hold)
    app.command(
        epilog=example(
            "tunegate agent local",
            "tunegate agent local --once",
            "tunegate agent production --pull origin/main --signers /etc/tunegate/signers",
        )
    )(agent)
