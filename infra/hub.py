"""The seam to the Hugging Face hub, its only user: one commit's safetensors and tokenizer, no code, no pickles."""

from __future__ import annotations

import os
from pathlib import Path

from configs.errors import ExternalError, InputError, TunegateError

FETCHED = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.model", "vocab.txt", "merges.txt"]


def fetch_snapshot(repository: str, revision: str) -> Path:
    """The folder of that commit in the hub's own cache, fetched where absent. `HF_ENDPOINT` and `HF_TOKEN` are the
    hub's own variables.

    Raises InputError where the hub knows no such repository, revision or permission, ExternalError where it cannot be
    reached.
    """
    from httpx import HTTPError
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                repository, revision=revision, allow_patterns=FETCHED, endpoint=os.environ.get("HF_ENDPOINT")
            )
        )
    except (OSError, ValueError, HTTPError) as error:
        raise translate(error, f"base.hub: {repository}@{revision[:12]}") from error


def list_repository(repository: str, revision: str) -> list[str]:
    """Every file name of that commit, those that are never fetched included; raises as `fetch_snapshot`."""
    from httpx import HTTPError
    from huggingface_hub import HfApi

    try:
        return list(HfApi(endpoint=os.environ.get("HF_ENDPOINT")).list_repo_files(repository, revision=revision))
    except (OSError, ValueError, HTTPError) as error:
        raise translate(error, f"base.hub: {repository}@{revision[:12]}") from error


def translate(error: Exception, place: str) -> TunegateError:
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        return InputError(
            f"{place}: found a gated repository, expected one that HF_TOKEN may read",
            hint="accept its terms on the hub, then set HF_TOKEN",
        )
    if isinstance(error, RevisionNotFoundError):
        return InputError(
            f"{place}: found no such revision in this repository, expected a commit of it",
            hint="copy the commit's 40 hex digits from the hub",
        )
    if isinstance(error, RepositoryNotFoundError | HFValidationError):
        return InputError(
            f"{place}: found no such repository, expected OWNER/NAME that HF_TOKEN may read",
            hint="mend base.hub, or set HF_TOKEN",
        )
    reason = (
        "its cache lacks files of this commit"
        if isinstance(error, LocalEntryNotFoundError)
        else f"{type(error).__name__}: {error}"
    )
    found = f"{place}: the hub cannot be reached: {' '.join(reason.split())[:200]}"
    return ExternalError(found, hint="fetch it where the network is and give base.path the folder")
