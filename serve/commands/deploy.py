"""The operator's commands of the front door: serve, deploy, promote, rollback, stop, loadtest. What is said to a deployment under way: serve/commands/operate.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from configs.environment.config import environment_path, read_environment
from configs.errors import InputError, RefusedError
from infra.terminal import AsJson, EnvironmentName, Why, example, print_verdict, show
from serve.commands.audit import add_audit_commands
from serve.commands.operate import add_operator_commands
from serve.commands.view import add_looking_commands

if TYPE_CHECKING:
    from configs.environment.config import DeployConfig
    from serve.proofs.prove import Judge
    from serve.record.environment import Environment
    from serve.watch.watcher import Compare

JudgeOf = Callable[["DeployConfig"], "Judge | None"]


def add_commands(app: typer.Typer, judge_of: JudgeOf, compare_by: Callable[[], Compare]) -> None:
    """`judge_of` gives the gate of an environment's load rules, `compare_by` its statistics: both come from `eval`, which this room does not know."""

    def open_environment(config: DeployConfig) -> Environment:
        from serve.record.environment import Environment

        return Environment(config, lambda line: typer.secho(line, err=True), judge_of(config), compare_by())

    add_looking_commands(app, open_environment)
    add_operator_commands(app, open_environment)
    add_audit_commands(app, open_environment)
    add_serving(app, open_environment)
    add_switching(app, open_environment)


def add_serving(app: typer.Typer, open_environment: Callable[[DeployConfig], Environment]) -> None:
    @app.command(epilog=example("tunegate serve build/smoke/release", "tunegate serve build/calls-v1/release --port 8001"))
    def serve(
        directory: Path,
        port: Annotated[int, typer.Option(help="on 127.0.0.1")] = 8000,
        public_key: Annotated[str | None, typer.Option(help="PEM file: only a release that this key has signed")] = None,
    ) -> None:
        """Serve one release by vLLM in the foreground, with the arguments of production. Ctrl-C ends it."""
        from serve.foreground import serve_release

        serve_release(directory, port, public_key)

    @app.command(
        epilog=example("tunegate loadtest local --users 16 --seconds 60", "tunegate loadtest local --ramp 1,2,4,8", "tunegate loadtest local --release DIR")
    )
    def loadtest(
        environment: EnvironmentName,
        release: Annotated[Path | None, typer.Option(help="a release directory: served for the test, the door left alone")] = None,
        users: Annotated[int | None, typer.Option(min=1, help="closed loop")] = None,
        seconds: Annotated[int | None, typer.Option(min=1)] = None,
        rate: Annotated[float | None, typer.Option(help="open loop: requests a second, Poisson arrivals")] = None,
        ramp: Annotated[str | None, typer.Option(help="open loop, to find the knee: rates, as 1,2,4,8")] = None,
        trace: Annotated[str | None, typer.Option(help="open loop: sampled requests to replay, .jsonl or .parquet")] = None,
        trace_speed: Annotated[float | None, typer.Option(help="2: twice as fast as recorded")] = None,
        processes: Annotated[int | None, typer.Option(min=1, help="locust's workers")] = None,
        as_json: AsJson = False,
    ) -> None:
        """Load-test what serves, through the door, and judge it by the environment's load rules. Writes report.html."""
        from configs.verdict import EXIT_CODES
        from serve.foreground import load_test

        flags = {"users": users, "seconds": seconds, "rate": rate, "trace": trace, "trace_speed": trace_speed, "processes": processes}
        given = {name: value for name, value in flags.items() if value is not None} | ({"ramp": ramp.split(",")} if ramp else {})
        figures, verdict, page = load_test(open_environment(read_environment(environment)), release, given)
        show(figures | {"verdict": verdict.outcome, "report": str(page)}, as_json)
        if not as_json:
            print_verdict(verdict)
        raise typer.Exit(EXIT_CODES[verdict.outcome])


def add_switching(app: typer.Typer, open_environment: Callable[[DeployConfig], Environment]) -> None:
    @app.command(epilog=example("tunegate deploy local", "tunegate deploy local calls-v2", "tunegate deploy local calls-v2@sha256:... --json"))
    def deploy(
        environment: EnvironmentName,
        release: Annotated[str | None, typer.Argument(help="a published release to pin first: NAME, NAME@DIGEST12 or NAME@sha256:...")] = None,
        plan: Annotated[bool, typer.Option("--plan", help="say what would be done and whether there is room; change nothing")] = False,
        why: Why = None,
        as_json: AsJson = False,
    ) -> None:
        """Switch to the pinned release without cutting a stream: start, warm, smoke, parity, load test, switch, bake, retire."""
        from serve.deploy import deploy as reconcile
        from serve.preview import preview

        if plan:
            config = read_environment(environment)
            show(preview(open_environment(config), resolve(release) if release else config.release), as_json)
            return
        config = pin_release(environment, release) if release else read_environment(environment)
        if config.release is None:
            raise InputError(f"{environment_path(environment)}: no release is pinned", hint=f"tunegate deploy {environment} RELEASE   (tunegate releases list)")
        found = reconcile(replace(open_environment(config), why=why), config.release)
        crown(found)
        show(found, as_json)

    @app.command(epilog=example("tunegate promote local"))
    def promote(environment: EnvironmentName, why: Why = None, as_json: AsJson = False) -> None:
        """Let a proven release take the traffic, where promotion is manual."""
        from serve.deploy import promote as let_in

        found = let_in(replace(open_environment(read_environment(environment)), why=why))
        crown(found)
        show(found, as_json)

    @app.command(epilog=example("tunegate rollback local", 'tunegate rollback production --why "answers are cut short"'))
    def rollback(environment: EnvironmentName, why: Why = None, as_json: AsJson = False) -> None:
        """Back to the warm old slot at once, and its release pinned again: commit that line. Where an agent follows a branch, that commit is made."""
        from serve.deploy import rollback as go_back

        env = replace(open_environment(read_environment(environment)), why=why)
        found = go_back(env)
        found |= pin_back(env, environment_path(environment), str(found["release"]))
        crown(found)
        show(found, as_json)

    @app.command(epilog=example("tunegate stop local", "tunegate stop local --drain 60"))
    def stop(environment: EnvironmentName, drain: Annotated[float, typer.Option(min=0, help="seconds that open streams get")] = 0) -> None:
        """End the door and both slots of an environment."""
        from serve.deploy import stop_all

        stop_all(open_environment(read_environment(environment)), drain)


def pin_back(env: Environment, path: Path, release: str) -> dict[str, Any]:
    """In the file; where the environment follows a branch, by a commit with a merge request, which its agent makes if it is there."""
    from configs.environment.pin import pin
    from serve.gitops.follow import write_back
    from serve.record.environment import holder_of

    follows = env.record.state().follows
    if follows is None:
        pin(path, release)
        return {}
    holder = holder_of(env)
    if holder and holder.facts["command"] == "agent":
        return {"next": f"the agent writes the pin back to {follows}: tunegate status {env.config.name}"}
    found = write_back(env, path, follows) or {}
    return {"branch": found.get("branch"), "merge_request": found.get("url")}


def pin_release(environment: str, release: str) -> DeployConfig:
    """Bytes and verdict are checked before the pin is touched. Raises RefusedError where the pin is a branch's, and so a commit's."""
    from configs.environment.pin import pin
    from serve.deploy import check_release
    from serve.record.record import Record

    config = read_environment(environment)
    follows = Record(Path(config.state_dir) / "events.jsonl").state().follows
    if follows:
        raise RefusedError(
            f"{config.name} follows {follows}: a release is pinned by a commit there", hint=f"change {environment_path(environment)} by a merge request"
        )
    reference = resolve(release)
    check_release(config, reference)
    pin(environment_path(environment), reference)
    return read_environment(environment)


def resolve(text: str) -> str:
    """The one published release whose reference is `text`, starts with it, or whose name it is (then the newest)."""
    from infra.dvc.releases import list_releases

    rows = list_releases()
    starting = [row["reference"] for row in rows if row["reference"].replace("@sha256:", "@").startswith(text.replace("@sha256:", "@")) and "@" in text]
    named = [row["reference"] for row in rows if row["name"] == text][-1:]
    found = starting or named
    if len(found) != 1:
        known = ", ".join(sorted({row["name"] for row in rows})) or "none"
        raise InputError(f"{text}: {len(found)} published releases fit, expected one; published: {known}", hint="tunegate releases list")
    return str(found[0])


def crown(found: dict[str, Any]) -> None:
    """The registry's alias `champion` follows what serves; a registry that is down never undoes a deployment."""
    from configs.release import read_manifest
    from infra.dvc.releases import folder_of
    from infra.mlflow.registry import set_champion

    if found["release"] and "waiting" not in found:
        set_champion(read_manifest(folder_of(found["release"]) / "release"))
