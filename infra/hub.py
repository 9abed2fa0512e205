"""The seam to the Hugging Face hub, its only user: one commit's safetensors and tokenizer, no code, no pickles; and a
release put there."""

from __future__ import annotations

import os
from pathlib import Path

from configs.errors import ExternalError, InputError, TunegateError

OTHER_FORMS = ["consolidated*", "original/*", "onnx/*", "openvino/*"]  # the same weights once more
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
                repository,
                revision=revision,
                allow_patterns=FETCHED,
                ignore_patterns=OTHER_FORMS,
                endpoint=os.environ.get("HF_ENDPOINT"),
            )
        )
    except (OSError, ValueError, HTTPError) as error:
        raise translate(error, f"base.hub: {repository}@{revision[:12]}") from error


def fetch_config(repository: str, revision: str) -> Path:
    """That commit's config.json in the hub's own cache, fetched where absent; raises as `fetch_snapshot`."""
    from httpx import HTTPError
    from huggingface_hub import hf_hub_download

    try:
        endpoint = os.environ.get("HF_ENDPOINT")
        return Path(hf_hub_download(repository, "config.json", revision=revision, endpoint=endpoint))
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


def push_folder(folder: Path, repository: str, message: str, private: bool = True) -> str:
    """The URL of the commit that holds exactly the files of `folder`; the repository is made where there is none, and
    one that exists keeps its visibility. `HF_ENDPOINT` and `HF_TOKEN` as above.

    Raises InputError where HF_TOKEN is missing or may not write there, ExternalError where the hub cannot be reached.
    """
    from httpx import HTTPError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    place = f"--hub {repository}"
    token = os.environ.get("HF_TOKEN")
    if not token:
        raise InputError(
            f"{place}: found no HF_TOKEN, expected one that may write there",
            hint="make one at https://huggingface.co/settings/tokens, then export HF_TOKEN=...",
        )
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token)
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message=message, delete_patterns=["*"]
        )
    except HFValidationError as error:
        raise InputError(f"{place}: found no name of a repository, expected OWNER/NAME") from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403, 404):
            raise InputError(
                f"{place}: the hub answers {status}: HF_TOKEN may not write there",
                hint="give OWNER/NAME of your own, and a token that may write",
            ) from error
        raise translate(error, place) from error
    except (OSError, ValueError, RuntimeError, HTTPError) as error:
        raise translate(error, place) from error
    return str(commit.commit_url)
