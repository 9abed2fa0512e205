"""What the events about git and GitLab say, as serve/record/facts.py has it for all others."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict


class Pulled(TypedDict, total=False):
    """Where the followed branch stands; `why` it was not taken any further."""

    upstream: str
    commit: str
    author: str
    why: str


class Proposed(TypedDict, total=False):
    """The commit that writes a rollback back, and the merge request's `url`."""

    replaces: str
    release: str
    branch: str
    commit: str
    url: str | None


class Reported(TypedDict, total=False):
    """What GitLab was told last."""

    commit: str
    status: str
    description: str
    merge_request: Any
