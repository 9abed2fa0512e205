"""Options of `gitlab` (choose the child pipeline, pin the release, publish what was merged, report to merge requests)
and of `repro`, which the pipeline runs as people do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from configs.errors import InputError
from configs.read import read_run
from infra.terminal import Config, example, waiting

Stage = Literal["prepare", "train", "quantize", "evaluate", "gate"]


def repro(
    config: Config,
    until: Annotated[Stage, typer.Option(help="the last stage of dvc.yaml that is wanted")] = "gate",
    push: Annotated[bool, typer.Option("--push", help="what was made into the DVC remote")] = False,
) -> None:
    """The stages of dvc.yaml for one config, those that are not done; what the DVC remote has is fetched."""
    from configs.check import refuse_gate
    from infra.dvc.inputs import enlist
    from infra.dvc.reproduce import reproduce

    if until in ("evaluate", "gate"):  # not after the hours of training
        refuse_gate(read_run(config, None), config)
    ran = reproduce(enlist(config), until, push=push)
    typer.echo(f"ran {', '.join(ran) or 'nothing: all of it is done'}")


def children(
    base: Annotated[str, typer.Option(envvar="CI_MERGE_REQUEST_DIFF_BASE_SHA", help="the commit to compare HEAD with")],
    production: Annotated[
        str, typer.Option(envvar="PRODUCTION", help="the environment that `staging` goes before")
    ] = "",
    staging: Annotated[str, typer.Option(envvar="STAGING")] = "",
    output: Path = Path("build/children.yml"),
    as_json: Annotated[
        bool, typer.Option("--json", help="the configs on one line, for a matrix of another system")
    ] = False,
) -> None:
    """Write the child pipeline of the configs that changed: their YAML, their gate or their rows; smoke also for a
    change of the code."""
    from infra.dvc.inputs import known_configs, refresh
    from infra.gitlab.child_pipeline import changed_since, pipeline, read_runs, reproducible, touched, write

    refresh()
    runs = reproducible(touched(changed_since(base), read_runs()), known_configs())
    write(output, pipeline(runs, production, staging))
    if as_json:
        typer.echo(
            json.dumps(
                [{"name": run.name, "environment": run.environment or "", "pin": pin} for run, pin in runs.items()]
            )
        )
    else:
        typer.echo(f"{output}: {', '.join(run.name for run in runs) or 'no config changed'}")


def pin(
    config: Config,
    environments: Annotated[list[str], typer.Argument(metavar="ENV...", help="names under configs/deploy")],
    pipeline: Annotated[
        int | None, typer.Option(envvar="CI_PIPELINE_ID", help="whose artifacts have the release's bytes")
    ] = None,
) -> None:
    """Commit the judged release's digest and pointer, and dvc.lock, to the merge request's branch. No secret is used:
    it pushes with the job's own token, and its bytes are published after the merge."""
    from configs.paths import RunPaths
    from infra.commands.releases import trained_by
    from infra.dvc.publish import prepare_pin
    from infra.dvc.releases import PIPELINE
    from infra.gitlab.pin import Branch, pin_release

    name, branch = read_run(config, None).name, Branch.from_environment()
    paths = RunPaths.of(name)
    with waiting("DVC takes the release"):
        prepare_pin(paths, trained_by(paths), {PIPELINE: pipeline} if pipeline else {})
    commit = pin_release(name, environments, branch)
    typer.echo(f"pushed {commit}" if commit else "nothing to pin: the branch says so already")


def publish() -> None:
    """Put what the environments pin into the DVC remote, from the artifacts of the pipelines that pinned it, and sign
    it: a job of the default branch, after the merge. Nothing is published that is not what git says."""
    from infra.gitlab.api import GitLab
    from infra.gitlab.publish import pinned, publish_pinned

    references = pinned()
    with waiting("the DVC remote takes what is pinned"):
        done = publish_pinned(GitLab.from_environment(), references)
    for reference, what in done.items():
        typer.echo(f"{reference}: {what}")
    if not done:
        typer.echo("no environment pins a release")


def report() -> None:
    """Keep the gate's reports as notes of the open merge requests, one a config, edited in place, and give a pinned
    head the status of the pipeline that judged it: a scheduled job of the default branch."""
    from infra.gitlab.api import GitLab
    from infra.gitlab.report import report_all

    gitlab = GitLab.from_environment()
    if gitlab is None:
        raise InputError(
            "no GitLab to write to: expected CI_SERVER_URL, CI_PROJECT_ID and TUNEGATE_GITLAB_TOKEN",
            hint="docs/ci.md says where the token comes from",
        )
    with waiting("GitLab is asked for open merge requests"):
        done = report_all(gitlab)
    typer.echo("\n".join(done) or "no open merge request has a report")


def add_commands(app: typer.Typer) -> None:
    gitlab = typer.Typer(
        no_args_is_help=True,
        rich_markup_mode=None,
        help="Steps of the pipelines in GitLab, as in: tunegate gitlab children",
    )
    app.add_typer(gitlab, name="gitlab")
    app.command(
        epilog=example(
            "tunegate repro configs/finetune/smoke.yaml", "tunegate repro configs/finetune/smoke.yaml --until quantize"
        )
    )(repro)
    gitlab.command("children", epilog=example("tunegate gitlab children --base origin/main"))(children)
    gitlab.command("pin", epilog=example("tunegate gitlab pin configs/finetune/smoke.yaml sentiment staging"))(pin)
    gitlab.command("publish", epilog=example("tunegate gitlab publish"))(publish)
    gitlab.command("report", epilog=example("tunegate gitlab report"))(report)
