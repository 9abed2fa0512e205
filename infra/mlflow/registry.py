"""What the MLflow registry says of releases. Reads only; with infra/mlflow/tracking.py and infra/mlflow/client.py the only user of MLflow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.masking import LOGIN_IN_ADDRESS
from infra.mlflow.client import connect, tracking_uri
from infra.mlflow.tracking import attempt


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
        (one.tags["digest"], Version(str(one.version), one.run_id or None, sorted(alias for alias, of in aliases.items() if str(of) == str(one.version))))
        for one in client.search_model_versions(f"name='{name}'")
        if "digest" in one.tags
    ]


def run_facts(run_id: str) -> dict[str, Any] | None:
    """Where to look at the run. None (and a warning) where MLflow does not answer, or does not know it."""

    def work() -> dict[str, Any]:
        info = connect(tracking_uri()).get_run(run_id).info
        server = LOGIN_IN_ADDRESS.sub("", tracking_uri()).rstrip("/")
        address = {"url": f"{server}/#/experiments/{info.experiment_id}/runs/{run_id}"} if server.startswith("http") else {}
        return {"name": info.run_name, "status": info.status, **address}

    return attempt(work, f"run {run_id} is not shown") if is_here() else None
