"""The DVC repository of this checkout, opened."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from configs.errors import ExternalError
from infra.masking import masked, refuse_written_login
from infra.state.stores import settle_dvc_remote


@contextmanager
def repository() -> Iterator[Any]:
    """DVC's repository of this checkout; its errors become ours."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.ui import ui

    # Its bars and spinners leave lines behind: what is waited for is said by our commands.
    logging.getLogger("dvc.progress").setLevel(logging.CRITICAL)
    ui.error_console.quiet = True

    settle_dvc_remote()
    try:
        with Repo(".") as repo:
            repo.scm_context.quiet = True  # its advice goes to stdout, which belongs to the command line
            refuse_written_login(repo.config.read("repo"), ".dvc/config")
            yield repo
    except (DvcException, OSError) as error:
        raise ExternalError(
            masked(f"DVC: {type(error).__name__}: {error}"), hint=".venv/bin/dvc status --cloud"
        ) from error
