"""The stores' commands of the front door: releases and sync."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from configs.console import AsJson, Config, example, read_run, show

if TYPE_CHECKING:
    from configs.schema import RunConfig


def add_commands(app: typer.Typer) -> None:
    releases = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Published releases, as in: tunegate releases list --json")
    app.add_typer(releases, name="releases")

    @app.command(epilog=example("tunegate sync", "tunegate sync calls-v1 --json"))
    def sync(names: Annotated[list[str] | None, typer.Argument(help="runs under build; none: all")] = None, as_json: AsJson = False) -> None:
        """Deliver what MLflow could not take while it was down; each line once."""
        from infra.sync import sync

        show(sync(names or []), as_json)

    @releases.command("verify", epilog=example("tunegate releases verify build/smoke/release"))
    def verify(directory: Path) -> None:
        """Rehash every byte of a release directory; exit 1 names each file that differs."""
        from configs.release import verify_release

        typer.echo(verify_release(directory).reference)

    @releases.command("list", epilog=example("tunegate releases list --json"))
    def list_published(as_json: AsJson = False) -> None:
        """Published releases with digest and verdict."""
        from infra.artifacts import list_releases

        show(list_releases(), as_json)

    @releases.command("publish", epilog=example("tunegate releases publish configs/finetune/smoke.yaml"))
    def publish_release(config: Config) -> None:
        """Put a passed release, its evaluation and its verdict into the DVC remote."""
        typer.echo(str(run_publish(read_run(config, None))))

    @releases.command("fetch", epilog=example("tunegate releases fetch calls-v2@sha256:..."))
    def fetch(reference: str) -> None:
        """Bring a published release here from the DVC remote."""
        from infra.artifacts import find

        typer.echo(str(find(reference)))


def run_publish(run: RunConfig) -> Path:
    """Bytes to the DVC remote, name to the MLflow registry."""
    from configs.paths import RunPaths
    from configs.release import read_manifest
    from infra.artifacts import publish
    from infra.tracking import register

    paths = RunPaths.of(run.name)
    target = publish(paths)
    training = json.loads((paths.adapter / "training.json").read_text(encoding="utf8"))
    register(read_manifest(target / "release"), target / "release", training["tracking_run_id"])
    return target
