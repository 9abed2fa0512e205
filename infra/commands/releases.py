"""Options of `releases` and `sync`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import infra.commands.fetch
from configs.errors import InputError
from configs.read import read_run
from infra.terminal import AsJson, Config, example, print_summary, print_table, show, waiting

if TYPE_CHECKING:
    from configs.paths import RunPaths
    from configs.run.config import RunConfig

COLUMNS = ("release", "created", "verdict", "judged_for", "here", "aliases", "environments", "metrics")


def sync(
    names: Annotated[list[str] | None, typer.Argument(help="runs under build; none: all")] = None,
    as_json: AsJson = False,
) -> None:
    """Deliver what MLflow could not take while it was down; each line once."""
    from infra.mlflow.sync import sync

    with waiting("MLflow takes what is left"):
        delivered = sync(names or [])
    show(delivered, as_json)


def verify(
    directory: Path,
    public_key: Annotated[str | None, typer.Option(help="PEM file: the key that must have signed it")] = None,
) -> None:
    """Rehash every byte of a release directory, check its signature; exit 1 names what differs."""
    from configs.release import verify_release

    with waiting("every byte is hashed"):
        manifest = verify_release(directory)
    if public_key:
        from infra.signing import verify_signature

        verify_signature(directory, public_key, manifest.reference, afresh=True)
    typer.echo(manifest.reference)


def sign(reference: str) -> None:
    """Sign a published release and its verdicts anew, with the key that TUNEGATE_SIGNING_KEY names; publishing signs by
    itself."""
    from infra.dvc.publish import sign_published
    from infra.signing import KEY, MAKE_KEY, signing_key

    key = signing_key()
    if key is None:
        raise InputError(f"{KEY} names no private key", hint=f"{MAKE_KEY}; export {KEY}=signing.key")
    with waiting("DVC's remote takes the signatures"):
        sign_published(reference, key)
    typer.echo(f"signed {reference}")


def publish_release(config: Config) -> None:
    """Put a passed release, its evaluation and its verdict into the DVC remote."""
    typer.echo(str(run_publish(read_run(config, None))))


def fetch(reference: str) -> None:
    """Bring a published release here from the DVC remote."""
    from infra.dvc.releases import find

    with waiting("DVC brings the release"):
        folder = find(reference)
    typer.echo(str(folder))


def push(
    reference: str,
    hub: Annotated[str | None, typer.Option(help="OWNER/NAME on the Hugging Face hub")] = None,
    to: Annotated[
        str | None, typer.Option(metavar="URL", help="oci://REGISTRY/REPOSITORY, s3://BUCKET/PREFIX or a folder")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="where it is new: for all to read")] = False,
) -> None:
    """Put a published release, byte for byte, where clusters fetch from (--to), or on the Hugging Face hub (--hub;
    HF_TOKEN must be set, private unless --public)."""
    if (hub is None) == (to is None):
        raise InputError(
            "one of --to and --hub", hint=f"tunegate releases push {reference} --to oci://REGISTRY/REPOSITORY"
        )
    if to is not None:
        from infra.transfer.push import push as push_to

        with waiting(f"{to} takes the release"):
            found = push_to(reference, to)
        typer.echo(found)
        return
    push_to_hub(reference, hub or "", public)


def push_to_hub(reference: str, hub: str, public: bool) -> None:
    from infra.dvc.releases import find
    from infra.hub import push_folder

    with waiting("DVC brings the release"):
        folder = find(reference) / "release"
    with waiting("the hub takes the release"):
        url = push_folder(folder, hub, reference, private=not public)
    typer.echo(url)


def export_adapter(config: Config, directory: Path) -> None:
    """Write a trained adapter by itself into a new folder, as peft and vLLM load it (from build/NAME/trained)."""
    from configs.paths import RunPaths
    from infra.adapter import write_adapter

    run = read_run(config, None)
    write_adapter(run, RunPaths.of(run.name), directory)
    typer.echo(str(directory))


def list_published(context: typer.Context, as_json: AsJson = False) -> None:
    """Published releases: digest, verdict and the environments it is for, aliases, those that pin or run them, judged
    metrics; with --json also MLflow run, commit and data."""
    from infra.lineage.trace import catalogue

    with waiting("MLflow is asked for aliases"):
        rows = catalogue(context.obj.used_releases())
    if as_json:
        show(rows, True)
    else:
        print_table([{**row, "release": row["reference"], "created": row["created"][:10]} for row in rows], COLUMNS)


def prune_releases(
    context: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", help="do it; without, it is only said what would go")] = False,
    remote: Annotated[
        bool, typer.Option("--remote", help="also what no commit refers to, out of the DVC remote")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take away the bytes of releases that nothing refers to: no pin, no server, no way back, no branch, no tag, no
    history."""
    from infra.lineage.prune import prune

    with waiting("git and the DVC remote are asked"):
        found = prune(context.obj.used_releases, yes, remote)
    if as_json:
        show(found, True)
        return
    going = found["removed"] if yes else found["would_remove"]
    fates = [(name, "removed" if yes else "would be removed", "nothing refers to it") for name in going]
    fates += [(name, "kept", why) for name, why in found["kept"].items()]
    print_table(
        [dict(zip(("release", "fate", "why"), fate, strict=True)) for fate in fates], ("release", "fate", "why")
    )
    said = {"freed" if yes else "to be freed": f"{found['bytes'] / 2**20:,.1f} MiB"}
    print_summary(said | {key: value for key, value in found.items() if key.startswith("remote_")})


def add_commands(app: typer.Typer) -> None:
    app.command(epilog=example("tunegate sync", "tunegate sync calls-v1 --json"))(sync)
    infra.commands.fetch.add_commands(app)
    releases = typer.Typer(
        no_args_is_help=True, rich_markup_mode=None, help="Published releases, as in: tunegate releases list --json"
    )
    app.add_typer(releases, name="releases")
    releases.command(
        "verify",
        epilog=example(
            "tunegate releases verify build/smoke/release",
            "tunegate releases verify releases/NAME@.../release --public-key signing.pub",
        ),
    )(verify)
    releases.command(
        "sign", epilog=example("TUNEGATE_SIGNING_KEY=signing.key tunegate releases sign calls-v2@sha256:...")
    )(sign)
    releases.command("publish", epilog=example("tunegate releases publish configs/finetune/smoke.yaml"))(
        publish_release
    )
    releases.command("fetch", epilog=example("tunegate releases fetch calls-v2@sha256:..."))(fetch)
    releases.command(
        "push",
        epilog=example(
            "tunegate releases push calls-v2@sha256:... --to oci://registry.example/releases",
            "tunegate releases push calls-v2@sha256:... --hub OWNER/NAME",
        ),
    )(push)
    releases.command(
        "export-adapter",
        epilog=example("tunegate releases export-adapter configs/finetune/calls-v2.yaml calls-adapter"),
    )(export_adapter)
    releases.command("list", epilog=example("tunegate releases list --json"))(list_published)
    releases.command(
        "prune",
        epilog=example(
            "tunegate releases prune", "tunegate releases prune --yes", "tunegate releases prune --remote --yes"
        ),
    )(prune_releases)


def run_publish(run: RunConfig) -> Path:
    """Bytes to the DVC remote, name to the MLflow registry."""
    from configs.paths import RunPaths
    from configs.release import read_manifest
    from infra.dvc.publish import publish
    from infra.mlflow.registry import register

    paths = RunPaths.of(run.name)
    run_id = trained_by(paths)
    with waiting("DVC takes the release"):
        target = publish(paths, run_id)
    with waiting("MLflow registers the release"):
        register(read_manifest(target / "release"), target / "release", run_id)
    return target


def trained_by(paths: RunPaths) -> str | None:
    """MLflow's run: as training noted it, or as it was delivered later by `tunegate sync`."""
    from infra.files.atomic import read_json
    from infra.mlflow.outbox import Outbox

    noted = (read_json(paths.trained / "training.json") or {}).get("tracking_run_id")
    return str(noted) if noted else Outbox(paths.root / "tracking").run_id
