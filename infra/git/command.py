"""The seam to git: how every call of it is made, and the facts of a commit. A branch that is followed:
infra/git/upstream.py."""

from __future__ import annotations

import getpass
import os
import re
import signal
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from configs.errors import ExternalError

SECONDS = 60
# A git hook that runs us sets these: they would send every command to the hook's repository.
ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX")
# Nobody is there to be asked for a password or a host key, and no local replacement may stand for a commit.
ALONE = {"GIT_TERMINAL_PROMPT": "0", "GIT_NO_REPLACE_OBJECTS": "1", "LC_ALL": "C"}
BOT = {"NAME": "tunegate bot", "EMAIL": "tunegate-bot@noreply.invalid"}
SSH = "ssh -o BatchMode=yes -o ConnectTimeout=10"


@dataclass(frozen=True)
class Commit:
    """`author` is its name and address."""

    sha: str
    author: str


def head_revision() -> str:
    """The commit of the checkout, with `-dirty` when tracked files differ; `unknown` outside a repository."""
    try:
        return git(Path.cwd(), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty")
    except ExternalError:
        return "unknown"


def git(
    folder: Path,
    *arguments: str,
    text: str | None = None,
    environment: Mapping[str, str] | None = None,
    seconds: float = SECONDS,
    nothing: int = 0,
) -> str:
    """Its output; `text` is its input, `nothing` the exit code of "found none".

    Raises ExternalError with git's own words where it fails, is missing, or takes longer: it ends then, its ssh too.
    """
    variables = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
    variables = {"GIT_SSH_COMMAND": SSH} | variables | ALONE | dict(environment or {})
    name, hint = f"git {plain_name(arguments)}", f"git -C {folder} status"
    try:
        process = subprocess.Popen(
            ["git", *arguments],
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL if text is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise ExternalError(f"{name}: {error}", hint="install git; start in a clone") from error
    try:
        found, words = process.communicate(text, timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise ExternalError(f"{name}: no answer within {seconds:g} s", hint=hint) from None
    if process.returncode not in (0, nothing):
        raise ExternalError(f"{name}: {said(words) or f'exit code {process.returncode}'}", hint=hint)
    return found.removesuffix("\n")


def plain_name(arguments: tuple[str, ...]) -> str:
    """The subcommand, for messages: `-c key=value` is of no interest to people."""
    return next(
        (
            one
            for place, one in enumerate(arguments)
            if not one.startswith("-") and (place == 0 or arguments[place - 1] != "-c")
        ),
        "",
    )


def said(words: str) -> str:
    """Git's last lines in one; an address may carry a token, which no log may."""
    lines = [line for line in words.splitlines() if line and not line.startswith("hint:")]
    return re.sub(r"://[^@/\s]+@", "://", "; ".join(lines[-4:]))


def commit_of(folder: Path, revision: str, path: str | None = None) -> Commit | None:
    """`revision` itself, or the last commit up to it that changed `path`, as the branch saw it: of a merge the merge.
    None where there is none."""
    found = git(
        folder, "log", "-1", "--first-parent", "--format=%H %an <%ae>", revision, *(["--", path] if path else [])
    )
    sha, _, author = found.partition(" ")
    return Commit(sha, author) if sha else None


def stamp() -> dict[str, str]:
    """Who, and from which commit of the checkout at hand."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number that no name belongs to
        name = f"uid{os.getuid()}"
    return {"by": f"{name}@{socket.gethostname()}", "commit": head_revision()}
