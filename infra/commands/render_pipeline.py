"""`pipeline`: the stages of dvc.yaml for engines of others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from configs.errors import InputError
from configs.read import read_run
from infra.terminal import Config, example


def pipeline(
    config: Config,
    airflow: Annotated[bool, typer.Option("--airflow", help="an Airflow DAG, as a Python file")] = False,
    argo_workflows: Annotated[bool, typer.Option("--argo-workflows", help="an Argo Workflow, as YAML")] = False,
    checkout: Annotated[
        Path | None, typer.Option(help="with --airflow: tunegate's checkout on the workers; default: this one")
    ] = None,
    image: Annotated[str | None, typer.Option(help="with --argo-workflows: IMAGE@sha256:…, tunegate's own")] = None,
    claim: Annotated[
        str, typer.Option(help="with --argo-workflows: the PersistentVolumeClaim that holds the checkout")
    ] = "tunegate-checkout",
) -> None:
    """Print the pipeline of a config, from its rows to a published release, for Airflow or Argo Workflows."""
    from infra.files.yaml_text import as_yaml
    from infra.pipelines.airflow import airflow as as_airflow
    from infra.pipelines.argo_workflows import argo_workflow
    from infra.pipelines.stages import read_stages

    if airflow == argo_workflows:
        raise InputError("one of --airflow and --argo-workflows", hint=f"tunegate pipeline {config} --airflow")
    if argo_workflows and not image:
        raise InputError("--argo-workflows without --image", hint="docs/images.md; --image NAME@sha256:…")
    name, stages = read_run(config, None).name, read_stages(config)
    if airflow:
        typer.echo(as_airflow(name, stages, (checkout or Path()).absolute()), nl=False)
    else:
        typer.echo(as_yaml(argo_workflow(name, stages, image or "", claim)), nl=False)


def add_commands(app: typer.Typer) -> None:
    app.command(
        epilog=example(
            "tunegate pipeline configs/finetune/smoke.yaml --airflow",
            "tunegate pipeline configs/finetune/smoke.yaml --argo-workflows --image tunegate@sha256:3f…",
        )
    )(pipeline)
