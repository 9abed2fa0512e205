"""The seam to git."""

from __future__ import annotations

import subprocess


def head_revision() -> str:
    """The commit of the checkout, with `-dirty` when tracked files differ; `unknown` outside a repository."""
    try:
        run = subprocess.run(["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return run.stdout.strip()
