"""What the MLflow registry says of releases. Reads only; with infra/mlflow/tracking.py and infra/mlflow/client.py the
only user of MLflow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from configs.release import Manifest
from infra.masking import LOGIN_IN_ADDRESS
from infra.mlflow.client import attempt, connect, tracking_uri


@dataclass(frozen=True)
class Version:
    """One registered model version of a release."""

    version: str
    run_id: str | None
    aliases: list[str] = field(default_factory=list)


def is_here() -> bool:
    """False for a file that was never made: asking it would make it."""
    uri = tracking_uri()
    return not uri.startswith("sqlite:///") or Path(uri.removeprefix("sqlite:///")).exists()


def registered(names: Iterable[str]) -> dict[str, Version] | None:
    """Each registered digest of these models. None (and a warning) where MLflow does not answer."""

    def work() -> dict[str, Version]:
        client = connect(tracking_uri())
        return dict(found for name in sorted(set(names)) for found in versions_of(client, name))

    return attempt(work, "aliases are not shown") if is_here() else None


def versions_of(client: Any, name: str) -> list[tuple[str, Version]]:
    models = client.search_registered_models(filter_string=f"name='{name}'")
    aliases = models[0].aliases if models else {}
    return [
        (
            one.tags["digest"],
            Version(
                str(one.version),
                one.run_id or None,
                sorted(alias for alias, of in aliases.items() if str(of) == str(one.version)),
            ),
        )
        for one in client.search_model_versions(f"name='{name}'")
        if "digest" in one.tags
    ]


def run_facts(run_id: str) -> dict[str, str] | None:
    """Where to look at the run. None (and a warning) where MLflow does not answer, or does not know it."""

    def work() -> dict[str, str]:
        info = connect(tracking_uri()).get_run(run_id).info
        server = LOGIN_IN_ADDRESS.sub("", tracking_uri()).rstrip("/")
        address = (
            {"url": f"{server}/#/experiments/{info.experiment_id}/runs/{run_id}"} if server.startswith("http") else {}
        )
        return {"name": info.run_name, "status": info.status, **address}

    return attempt(work, f"run {run_id} is not shown") if is_here() else None


def register(manifest: Manifest, release_dir: Path, run_id: str | None) -> str | None:
    """The registered model version of this digest, made once, with the alias candidate; None (and a warning) without
    MLflow."""

    def work() -> str:
        client = connect(tracking_uri())
        version = version_of(client, manifest) or create_version(client, manifest, release_dir, run_id)
        client.set_registered_model_alias(manifest.name, "candidate", version)
        return version

    return attempt(work, f"{manifest.reference} is not registered; tunegate releases publish does it again")


def set_champion(manifest: Manifest) -> None:
    """The alias champion: one version for each production environment, whatever its model's name."""

    def work() -> None:
        client = connect(tracking_uri())
        version = version_of(client, manifest)
        if version is None:
            raise LookupError(f"no registered version has digest {manifest.digest}")
        client.set_registered_model_alias(manifest.name, "champion", version)
        for model in client.search_registered_models():
            if (
                model.name != manifest.name
                and "champion" in model.aliases
                and model.tags.get("production") == manifest.config.get("production")
            ):
                client.delete_registered_model_alias(model.name, "champion")

    attempt(work, f"{manifest.reference} has no alias champion")


def version_of(client: Any, manifest: Manifest) -> str | None:
    found = client.search_model_versions(f"name='{manifest.name}'")
    return next((str(version.version) for version in found if version.tags.get("digest") == manifest.digest), None)


def create_version(client: Any, manifest: Manifest, release_dir: Path, run_id: str | None) -> str:
    if not client.search_registered_models(filter_string=f"name='{manifest.name}'"):
        client.create_registered_model(manifest.name, tags={"production": manifest.config.get("production") or ""})
    # A server refuses sources in its own file system (mlflow/server/handlers.py:_validate_source_run): there, DVC's
    # name of the bytes.
    source = f"dvc://{release_dir.as_posix()}" if tracking_uri().startswith("http") else release_dir.resolve().as_uri()
    tags = {"digest": manifest.digest, "git_revision": manifest.git_revision, "reference": manifest.reference}
    return str(client.create_model_version(manifest.name, source, run_id=run_id, tags=tags).version)
