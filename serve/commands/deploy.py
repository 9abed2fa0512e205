"""The operator's commands of the front door: serve, deploy, promote, rollback, stop, loadtest. What is said to a
deployment under way: serve/commands/operate.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from configs.environment.config import environment_path, read_environment
from configs.errors import InputError
from infra.terminal import AsJson, EnvironmentName, Why, example, show
from serve.commands.audit import add_audit_commands
from serve.commands.operate import add_operator_commands
from serve.commands.serve import add_serving
from serve.commands.view import add_looking_commands
from serve.pin import pin_back, pin_release, resolve, set_champion_alias

if TYPE_CHECKING:
    from configs.environment.config import DeployConfig
    from serve.record.environment import Compare, Environment, LoadGate

JudgeOf = Callable[["DeployConfig"], "LoadGate | None"]


def add_commands(app: typer.Typer, judge_of: JudgeOf, compare_by: Callable[[], Compare]) -> None:
    """`judge_of` gives the gate of an environment's load rules, `compare_by` its statistics: both come from `eval`,
    which this room does not know."""

    def open_environment(config: DeployConfig) -> Environment:
        from serve.record.environment import Environment

        return Environment(config, lambda line: typer.secho(line, err=True), judge_of(config), compare_by())

    add_looking_commands(app, open_environment)
    add_operator_commands(app, open_environment)
    add_audit_commands(app, open_environment)
    add_serving(app, open_environment)
    add_switching(app, open_environment)


def add_switching(app: typer.Typer, open_environment: Callable[[DeployConfig], Environment]) -> None:
    @app.command(
        epilog=example(
            "tunegate deploy local",
            "tunegate deploy local calls-v2",
            "tunegate deploy local calls-v2@sha256:... --json",
        )
    )
    def deploy(
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

        if plan:
            config = read_environment(environment)
            show(preview(open_environment(config), resolve(release) if release else config.release), as_json)
            return
        config = pin_release(environment, release) if release else read_environment(environment)
        if config.release is None:
            raise InputError(
                f"{environment_path(environment)}: no release is pinned",
                hint=f"tunegate deploy {environment} RELEASE   (tunegate releases list)",
            )
        found = reconcile(replace(open_environment(config), why=why), config.release)
        set_champion_alias(found)
        show(found, as_json)

    @app.command(epilog=example("tunegate promote local"))
    def promote(environment: EnvironmentName, why: Why = None, as_json: AsJson = False) -> None:
        """Let a proven release take the traffic, where promotion is manual."""
        from serve.deploy import promote as let_in

        found = let_in(replace(open_environment(read_environment(environment)), why=why))
        set_champion_alias(found)
        show(found, as_json)

    @app.command(
        epilog=example("tunegate rollback local", 'tunegate rollback production --why "answers are cut short"')
    )
    def rollback(environment: EnvironmentName, why: Why = None, as_json: AsJson = False) -> None:
        """Back to the warm old slot at once, and its release pinned again: commit that line. Where an agent follows a
        branch, that commit is made."""
        from serve.deploy import rollback as go_back

        env = replace(open_environment(read_environment(environment)), why=why)
        found = go_back(env)
        found |= pin_back(env, environment_path(environment), str(found["release"]))
        set_champion_alias(found)
        show(found, as_json)

    @app.command(epilog=example("tunegate stop local", "tunegate stop local --drain 60"))
    def stop(
        environment: EnvironmentName,
        drain: Annotated[float, typer.Option(min=0, help="seconds that open streams get")] = 0,
    ) -> None:
        """End the router and both slots of an environment."""
        from serve.deploy import stop_all

        stop_all(open_environment(read_environment(environment)), drain)
