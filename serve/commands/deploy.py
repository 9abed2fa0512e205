"""Options of `deploy`, `promote`, `rollback`, `stop`. What is said to a deployment under way:
serve/commands/operate.py."""

from __future__ import annotations

from typing import Annotated

import typer

from configs.errors import InputError
from configs.read import environment_path
from infra.terminal import AsJson, EnvironmentName, Why, example, show
from serve.commands.context import open_environment, show_result
from serve.pin import pin_back, pin_release, resolve, set_champion_alias


def deploy(
    context: typer.Context,
    environment: EnvironmentName,
    release: Annotated[
        str | None, typer.Argument(help="a published release to pin first: NAME, NAME@DIGEST12 or NAME@sha256:...")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="say what would be done and whether there is room; change nothing")
    ] = False,
    why: Why = None,
    as_json: AsJson = False,
) -> None:
    """Switch to the pinned release without cutting a stream: start, warm, smoke, parity, load test, switch, bake,
    retire."""
    from serve.deploy import deploy as reconcile
    from serve.preview import preview
    from serve.supervise import supervised

    if plan:
        env = open_environment(context, environment)
        show(preview(env, resolve(release) if release else env.config.release), as_json)
        return
    if release:
        pin_release(environment, release)
    env = open_environment(context, environment, why)
    if env.config.release is None:
        raise InputError(
            f"{environment_path(environment)}: no release is pinned",
            hint=f"tunegate deploy {environment} RELEASE   (tunegate releases list)",
        )
    with supervised(env, environment):
        found = reconcile(env, env.config.release)
    set_champion_alias(found)
    show_result(found, as_json)


def promote(context: typer.Context, environment: EnvironmentName, why: Why = None, as_json: AsJson = False) -> None:
    """Let a proven release take the traffic, where promotion is manual."""
    from serve.deploy import promote as let_in
    from serve.supervise import supervised

    env = open_environment(context, environment, why)
    with supervised(env, environment):
        found = let_in(env)
    set_champion_alias(found)
    show_result(found, as_json)


def rollback(context: typer.Context, environment: EnvironmentName, why: Why = None, as_json: AsJson = False) -> None:
    """Back to the warm old slot at once, and its release pinned again: commit that line. Where an agent follows a
    branch, that commit is made."""
    from serve.deploy import rollback as go_back
    from serve.supervise import supervised

    env = open_environment(context, environment, why)
    with supervised(env, environment):
        found = go_back(env)
        found |= pin_back(env, environment_path(environment), str(found["release"]))
    set_champion_alias(found)
    show_result(found, as_json)


def stop(
    context: typer.Context,
    environment: EnvironmentName,
    drain: Annotated[float, typer.Option(min=0, help="seconds that open streams get")] = 0,
) -> None:
    """End the router and both slots of an environment."""
    from serve.deploy import stop_all

    stop_all(open_environment(context, environment), drain)


def add_commands(app: typer.Typer) -> None:
    app.command(
        epilog=example(
            "tunegate deploy local",
            "tunegate deploy local calls-v2",
            "tunegate deploy local calls-v2@sha256:... --json",
        )
    )(deploy)
    app.command(epilog=example("tunegate promote local"))(promote)
    app.command(
        epilog=example("tunegate rollback local", 'tunegate rollback production --why "answers are cut short"')
    )(rollback)
    app.command(epilog=example("tunegate stop local", "tunegate stop local --drain 60"))(stop)
