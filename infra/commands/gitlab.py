"""Options of `gitlab` (choose the child pipeline, keep the note, pin the release) and of `repro`, which the pipeline
runs as people do."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from configs.errors import InputError
from configs.read import read_run
from infra.terminal import Config, example

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


def note(
    config: Config,
    merge_request: Annotated[int, typer.Option(envvar="CI_MERGE_REQUEST_IID", help="its number, as !N")],
) -> None:
    """The gate's report as the config's one note in the merge request, edited in place."""
    put_report(read_run(config, None).name, merge_request)


def pin(
    config: Config,
    environments: Annotated[list[str], typer.Argument(metavar="ENV...", help="names under configs/deploy")],
) -> None:
    """Commit the published release's digest and pointer, and dvc.lock, to the merge request's branch, as a bot and
    without a pipeline of its own."""
    from infra.gitlab.api import GitLab
    from infra.gitlab.pin import Branch, pin_release

    name = read_run(config, None).name
    commit = pin_release(name, environments, Branch.from_environment())
    gitlab = GitLab.from_environment()
    if commit and gitlab:  # the commit has no pipeline, and GitLab may ask for one that passed before it merges
        gitlab.set_status(
            commit,
            "success",
            f"tunegate/{name}",
            "judged and pinned by the pipeline before",
            os.environ.get("CI_PIPELINE_URL"),
        )
    typer.echo(f"pushed {commit}" if commit else "nothing to pin: the branch says so already")


def add_commands(app: typer.Typer) -> None:
    gitlab = typer.Typer(
        no_args_is_help=True,
        rich_markup_mode=None,
        help="Steps of the merge request's pipeline, as in: tunegate gitlab children",
    )
    app.add_typer(gitlab, name="gitlab")
    app.command(
        epilog=example(
            "tunegate repro configs/finetune/smoke.yaml", "tunegate repro configs/finetune/smoke.yaml --until quantize"
        )
    )(repro)
    gitlab.command("children", epilog=example("tunegate gitlab children --base origin/main"))(children)
    gitlab.command("note", epilog=example("tunegate gitlab note configs/finetune/smoke.yaml"))(note)
    gitlab.command("pin", epilog=example("tunegate gitlab pin configs/finetune/smoke.yaml sentiment staging"))(pin)


def put_report(name: str, merge_request: int) -> None:
    """Raises InputError without a report or without GitLab."""
    from configs.paths import RunPaths
    from infra.gitlab.api import GitLab

    report = RunPaths.of(name).gate / "report.md"
    if not report.exists():
        raise InputError(
            f"{report}: missing, expected the gate's report", hint=f"tunegate gate configs/finetune/{name}.yaml"
        )
    gitlab = GitLab.from_environment()
    if gitlab is None:
        raise InputError(
            "no GitLab to write to: expected CI_SERVER_URL, CI_PROJECT_ID and TUNEGATE_GITLAB_TOKEN",
            hint="docs/ci.md says where the token comes from",
        )
    job = os.environ.get("CI_JOB_URL")
    facts = " · ".join(
        part
        for part in (f"`{name}`", f"commit {os.environ.get('CI_COMMIT_SHA', '')[:12]}", f"[job]({job})" if job else "")
        if part
    )
    gitlab.put_note(merge_request, f"gate {name}", f"{report.read_text(encoding='utf8')}\n\n{facts}\n")
    typer.echo(f"the note of {name} in !{merge_request} stands")
