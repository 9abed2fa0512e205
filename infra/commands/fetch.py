"""`fetch`: a release's bytes onto a node, verified."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from configs.errors import InputError
from infra.terminal import example, waiting


def fetch(
    reference: Annotated[str, typer.Argument(metavar="NAME@DIGEST")],
    to: Annotated[Path, typer.Option("--to", help="a folder that will show the release: links into the cache")],
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="URL", help="oci://…, s3://… or a folder; none: DVC's remote, in a checkout"),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="where releases lie, one folder a digest; default: the user's cache folder")
    ] = None,
    public_key: Annotated[str | None, typer.Option(help="PEM file: the key that must have signed it")] = None,
) -> None:
    """Bring a release into this node's cache, verify every file, show it in a folder; what is there is not fetched."""
    from configs.release import REFERENCE_PATTERN
    from infra.files.user_cache import cache_file
    from infra.transfer.cache import fetch_into, link_into
    from infra.transfer.places import open_place

    if not re.fullmatch(REFERENCE_PATTERN, reference):
        raise InputError(
            f"{reference}: not a release, expected NAME@sha256:64 hex digits", hint="tunegate releases list"
        )
    if source is None:
        from infra.dvc.releases import fetch as from_dvc
        from infra.dvc.signatures import verify_published

        with waiting("DVC brings the release"):
            folder = from_dvc(reference)
        if public_key:
            verify_published(folder, folder / "release", public_key, reference)
        release = folder / "release"
    else:
        place = cache or cache_file("releases")
        if place is None:
            raise InputError("no folder for the cache", hint=f"tunegate fetch {reference} --cache FOLDER …")
        with waiting(f"{reference[:60]} is fetched from {source}"):
            release = fetch_into(place, reference, open_place(source, reference.partition("@")[2]), public_key)
    link_into(release, to)
    typer.echo(str(to))


def add_commands(app: typer.Typer) -> None:
    app.command(
        epilog=example(
            "tunegate fetch calls-v2@sha256:... --to /release --from oci://registry.example/releases --cache /cache",
            "tunegate fetch calls-v2@sha256:... --to /release --from s3://bucket/releases",
        )
    )(fetch)
