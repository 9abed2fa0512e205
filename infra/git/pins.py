"""Which releases a file of configs/deploy pinned, as git knows it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from configs.errors import ExternalError
from configs.release import REFERENCE_PATTERN
from infra.git.command import git

BASE = "CI_MERGE_REQUEST_DIFF_BASE_SHA"  # GitLab's: the commit of the target branch that a merge request starts from
PINNED = re.compile(rf"(?m)^release:\s*[\"']?({REFERENCE_PATTERN.strip('^$')})")


def pinned_before(path: Path, release: str | None) -> str | None:
    """What the file pins: in a merge request's pipeline where that began, for its own pin does not serve yet; else
    `release`. Raises ExternalError where that commit cannot be had."""
    base = os.environ.get(BASE)
    if not base or path.is_absolute():
        return release
    try:
        fetch_missing(base)
        if not git(Path.cwd(), "ls-tree", "--name-only", base, "--", path.as_posix()):
            return None
        return pin_in(git(Path.cwd(), "show", f"{base}:./{path.as_posix()}"))
    except ExternalError as error:
        raise ExternalError(
            f"{BASE} {base}: {error.message}", hint='GIT_DEPTH: "0"   (or: git fetch origin COMMIT)'
        ) from error


def fetch_missing(commit: str) -> None:
    try:
        git(Path.cwd(), "cat-file", "-e", f"{commit}^{{commit}}")
    except ExternalError:  # a shallow clone
        git(Path.cwd(), "fetch", "--quiet", "--no-tags", "--depth=1", "origin", commit)


def last_pinned(path: Path) -> str | None:
    """The newest release that the file's history names, up to HEAD or where a merge request began, whether it was
    pinned then or taken away; None outside of a repository, or for a file that no commit knows."""
    begin = os.environ.get(BASE) or "HEAD"
    try:
        lines = git(Path.cwd(), "log", "-p", "-U0", "--format=", begin, "--", path.as_posix()).splitlines()
    except ExternalError:
        return None
    return next((found for line in lines if line[:1] in "+-" and (found := pin_in(line[1:]))), None)


def pin_in(text: str) -> str | None:
    found = PINNED.search(text)
    return found[1] if found else None
