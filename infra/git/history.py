"""What git's history says of a release: who names it, the commit that made it, the merge request that brought it in.
Reads only."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NotRequired, TypedDict

from configs.errors import ExternalError
from configs.release import REFERENCE_PATTERN
from infra.git.command import git
from infra.masking import LOGIN_IN_ADDRESS

CONFIGS = "configs"
REFERENCE = REFERENCE_PATTERN.strip("^$")
# GitLab's own words, in a merge commit or in the message of a squashed one:
# doc/user/project/merge_requests/commit_templates.md.
MERGE_REQUEST = re.compile(r"See merge request (\S*?)!(\d+)")
COMMIT_FORMAT = "%H%x09%an%x09%aI%x09%s"
REFS_AT_ONCE = 200
LONGEST_SECONDS = 600  # a search through all of a long history


class Commit(TypedDict):
    """`dirty`: beside it, the checkout had changes that were in no commit."""

    sha: str
    author: str
    date: str
    subject: str
    dirty: NotRequired[bool]


def ask(*arguments: str) -> str | None:
    """Git's output; None where it says no, or where there is no repository."""
    try:
        return insist(*arguments)
    except ExternalError:
        return None


def insist(*arguments: str, nothing: int = 0) -> str:
    """Git's output, where an unanswered question must not pass for a no. Raises ExternalError."""
    return git(Path.cwd(), *arguments, nothing=nothing, seconds=LONGEST_SECONDS).strip()


def referenced() -> dict[str, str]:
    """Each NAME@sha256:… in configs/, and where: in the checkout, at the tip of a branch or tag, or in the history of
    HEAD (which a revert goes back to).

    Raises ExternalError where git cannot tell.
    """
    places = [*in_history(), *at_tips(), *in_checkout()]
    return dict(places)  # the nearest place is named, so it comes last


def in_checkout() -> list[tuple[str, str]]:
    paths = sorted(Path(CONFIGS).rglob("*.y*ml"))
    return [
        (found, path.as_posix())
        for path in paths
        for found in re.findall(REFERENCE, path.read_text(encoding="utf8", errors="replace"))
    ]


def at_tips() -> list[tuple[str, str]]:
    refs = insist("for-each-ref", "--format=%(refname)").splitlines()
    found = []
    for first in range(0, len(refs), REFS_AT_ONCE):
        lines = insist("grep", "-oE", REFERENCE, *refs[first : first + REFS_AT_ONCE], "--", CONFIGS, nothing=1)
        found += [
            (line[match.start() :], line[: match.start()].rstrip(":"))
            for line in lines.splitlines()
            if (match := re.search(REFERENCE + "$", line))
        ]
    return found


def in_history() -> list[tuple[str, str]]:
    """Every line that a commit of HEAD's history added to configs/ or took away, merges against each parent."""
    if ask("rev-parse", "-q", "--verify", "HEAD") is None:  # no commit yet
        return []
    lines = insist("log", "-m", "-p", "-U0", "--format=", "-G", "@sha256:", "HEAD", "--", CONFIGS)
    return [
        (found, "the history of HEAD")
        for line in lines.splitlines()
        if line[:1] in "+-"
        for found in re.findall(REFERENCE, line)
    ]


def commit_facts(revision: str) -> Commit | None:
    """Of `revision` without its `-dirty`; None where it is not here."""
    sha, dirty = revision.removesuffix("-dirty"), revision.endswith("-dirty")
    found = (
        ask("show", "-s", f"--format={COMMIT_FORMAT}", f"{sha}^{{commit}}")
        if re.fullmatch(r"[0-9a-f]{7,64}", sha)
        else None
    )
    if not found:
        return None
    commit = read_commit(found)
    return commit | {"dirty": True} if dirty else commit


def pinned_by(reference: str) -> list[Commit]:
    """The commits that brought this reference into configs/deploy, or took it away; oldest first."""
    lines = (
        ask("log", "--all", "--reverse", f"--format={COMMIT_FORMAT}", f"-S{reference}", "--", f"{CONFIGS}/deploy") or ""
    )
    return [read_commit(line) for line in lines.splitlines()]


def read_commit(line: str) -> Commit:
    """Of COMMIT_FORMAT."""
    sha, author, date, subject = line.split("\t", 3)
    return {"sha": sha, "author": author, "date": date, "subject": subject}


def added_by(path: Path) -> str | None:
    """The newest commit of any branch that has this file; None where no commit has it."""
    return ask("log", "--all", "--diff-filter=AM", "-1", "--format=%H", "--", path.as_posix()) or None


def pointers() -> set[str]:
    """NAME@DIGEST12 of every release pointer that any commit of any ref has, or had. Raises ExternalError where git
    cannot tell."""
    lines = insist("log", "--all", "-m", "--name-only", "--format=", "--", "releases/*.dvc").splitlines()
    return {Path(line).stem for line in lines if line}


def is_at(revision: str, path: str) -> bool:
    return ask("cat-file", "-e", f"{revision.removesuffix('-dirty')}:{path}") is not None


def merge_request_of(sha: str) -> dict[str, str] | None:
    """The first merge after this commit that names one, or its own message where it was squashed."""
    own = ask("show", "-s", "--format=%H%x00%B", sha) or ""
    merges = ask("log", "--all", "--merges", "--reverse", "--ancestry-path", "--format=%H%x00%B%x01", f"^{sha}") or ""
    for text in (own, *merges.split("\x01")):
        commit, _, message = text.strip().partition("\0")
        if found := MERGE_REQUEST.search(message):
            url = web_address(found[1], found[2])
            return {"reference": f"{found[1]}!{found[2]}", "merged_by": commit} | ({"url": url} if url else {})
    return None


def web_address(project: str, number: str) -> str | None:
    """By CI_SERVER_URL, or by where `origin` is: without the login that its address may carry."""
    origin = ask("remote", "get-url", "origin") or ""
    ssh = re.fullmatch(r"(?:ssh://)?[^/@]+@([^/:]+)(?::\d+)?[:/](.+)", origin)
    web = re.match(r"https?://[^/]+", LOGIN_IN_ADDRESS.sub("", origin))
    server = os.environ.get("CI_SERVER_URL") or (f"https://{ssh[1]}" if ssh else web[0] if web else None)
    return f"{server.rstrip('/')}/{project}/-/merge_requests/{number}" if server and project else None
