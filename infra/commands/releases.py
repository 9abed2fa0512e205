"""The stores' commands of the front door: releases and sync."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from configs.errors import InputError
from configs.run.config import read_run
from infra.terminal import AsJson, Config, example, show

if TYPE_CHECKING:
    from configs.paths import RunPaths
    from configs.release import ReleaseUse
    from configs.run.config import RunConfig


def add_commands(app: typer.Typer, uses: Callable[[], list[ReleaseUse]]) -> None:
    """`uses`: which releases the environments here pin and run, as their records say; those are `serve`'s, which this
    room does not know."""
    add_sync(app)
    releases = typer.Typer(
        no_args_is_help=True, rich_markup_mode=None, help="Published releases, as in: tunegate releases list --json"
    )
    app.add_typer(releases, name="releases")
    add_store_commands(releases)
    add_view_commands(releases, uses)


def add_sync(app: typer.Typer) -> None:
    @app.command(epilog=example("tunegate sync", "tunegate sync calls-v1 --json"))
    def sync(
        names: Annotated[list[str] | None, typer.Argument(help="runs under build; none: all")] = None,
        as_json: AsJson = False,
    ) -> None:
        """Deliver what MLflow could not take while it was down; each line once."""
        from infra.mlflow.sync import sync

        show(sync(names or []), as_json)


def add_store_commands(releases: typer.Typer) -> None:
    @releases.command(
        "verify",
        epilog=example(
            "tunegate releases verify build/smoke/release",
            "tunegate releases verify releases/NAME@.../release --public-key signing.pub",
        ),
    )
    def verify(
        directory: Path,
        public_key: Annotated[str | None, typer.Option(help="PEM file: the key that must have signed it")] = None,
    ) -> None:
        """Rehash every byte of a release directory, check its signature; exit 1 names what differs."""
        from configs.release import verify_release

        manifest = verify_release(directory)
        if public_key:
            from infra.signing import verify_signature

            verify_signature(directory, public_key)
        typer.echo(manifest.reference)

    @releases.command(
        "sign", epilog=example("TUNEGATE_SIGNING_KEY=signing.key tunegate releases sign calls-v2@sha256:...")
    )
    def sign(reference: str) -> None:
        """Sign a published release anew, with the key that TUNEGATE_SIGNING_KEY names; publishing signs by itself."""
        from infra.dvc.releases import sign_published
        from infra.signing import KEY, MAKE_KEY, signing_key

        key = signing_key()
        if key is None:
            raise InputError(f"{KEY} names no private key", hint=f"{MAKE_KEY}; export {KEY}=signing.key")
        typer.echo(str(sign_published(reference, key)))

    @releases.command("publish", epilog=example("tunegate releases publish configs/finetune/smoke.yaml"))
    def publish_release(config: Config) -> None:
        """Put a passed release, its evaluation and its verdict into the DVC remote."""
        typer.echo(str(run_publish(read_run(config, None))))

    @releases.command("fetch", epilog=example("tunegate releases fetch calls-v2@sha256:..."))
    def fetch(reference: str) -> None:
        """Bring a published release here from the DVC remote."""
        from infra.dvc.releases import find

        typer.echo(str(find(reference)))


def add_view_commands(releases: typer.Typer, uses: Callable[[], list[ReleaseUse]]) -> None:
    @releases.command("list", epilog=example("tunegate releases list --json"))
    def list_published(as_json: AsJson = False) -> None:
        """Published releases: digest, verdict, judged metrics, MLflow run, aliases, and the environments that pin or
        run them."""
        from infra.lineage.trace import catalogue

        show(catalogue(uses()), as_json)

    @releases.command(
        "prune",
        epilog=example(
            "tunegate releases prune", "tunegate releases prune --yes", "tunegate releases prune --remote --yes"
        ),
    )
    def prune_releases(
        yes: Annotated[bool, typer.Option("--yes", help="do it; without, it is only said what would go")] = False,
        remote: Annotated[
            bool, typer.Option("--remote", help="also what no commit refers to, out of the DVC remote")
        ] = False,
        as_json: AsJson = False,
    ) -> None:
        """Take away the bytes of releases that nothing refers to: no pin, no server, no way back, no branch, no tag, no
        history."""
        from infra.lineage.prune import prune

        show(prune(uses, yes, remote), as_json)


def run_publish(run: RunConfig) -> Path:
    """Bytes to the DVC remote, name to the MLflow registry."""
    from configs.paths import RunPaths
    from configs.release import read_manifest
    from infra.dvc.releases import publish
    from infra.mlflow.registry import register

    paths = RunPaths.of(run.name)
    run_id = trained_by(paths)
    target = publish(paths, run_id)
    register(read_manifest(target / "release"), target / "release", run_id)
    return target


def trained_by(paths: RunPaths) -> str | None:
    """MLflow's run: as training noted it, or as it was delivered later by `tunegate sync`."""
    from infra.dvc.releases import read_json
    from infra.mlflow.outbox import Outbox

    noted = read_json(paths.adapter / "training.json").get("tracking_run_id")
    return str(noted) if noted else Outbox(paths.root / "tracking").run_id
