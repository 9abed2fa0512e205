"""What ties an agent to git: the branch is pulled, a rollback is written back to it as a commit with a merge request,
and GitLab gets to know how it went.

Whatever is far away is done beside the agent (serve/gitops/background.py); the record keeps what came of it, so a
killed agent's successor neither repeats nor forgets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from configs.environment.pin import pinned_text
from configs.errors import InputError, TunegateError
from infra.background import LONGEST_WAIT_SECONDS, BackgroundTask
from infra.git.command import commit_of
from infra.git.upstream import Upstream
from serve.gitops.gitlab_status import Report, report_of, send, unreported
from serve.gitops.rollback import Rollback, rollback_of
from serve.record.drift import is_rolled_back
from serve.record.environment import Environment
from serve.record.git_facts import Proposed, Pulled, Reported

if TYPE_CHECKING:
    from infra.gitlab.api import GitLab

AT_ONCE = 0.0


class NoGitSync:
    """An agent whose YAML is changed by hand."""

    name: str | None = None
    behind: int = 0

    def begin(self) -> None: ...

    def wait(self) -> None: ...

    def trigger(self) -> None: ...

    def has_new_commit(self) -> bool:
        return False

    def pull(self, env: Environment) -> None: ...

    def check(self) -> None: ...

    def check_clean(self) -> None: ...

    def pinned_by(self) -> dict[str, str]:
        return {}

    def write_back(self, env: Environment) -> None: ...

    def report(self, env: Environment) -> None: ...


@dataclass
class GitSync:
    """`path` is the environment's YAML within the checkout; `behind`: commits of the branch that were seen and not
    taken."""

    upstream: Upstream
    path: str
    fetching: BackgroundTask[str]
    gitlab: GitLab | None = None
    head: str = ""
    behind: int = 0
    unclean: TunegateError | None = None
    unsent: dict[str, Report] = field(default_factory=dict)
    proposing: BackgroundTask[Proposed] = field(default_factory=lambda: BackgroundTask(AT_ONCE))
    reporting: BackgroundTask[Reported] = field(default_factory=lambda: BackgroundTask(AT_ONCE))

    @property
    def name(self) -> str:
        return str(self.upstream)

    def begin(self) -> None:
        """A fetch, if it is time for one; also while the agent sleeps."""
        if self.fetching.found == self.head:
            self.fetching.found = None
        self.fetching.begin(self.upstream.fetch)

    def trigger(self) -> None:
        """Called by the webhook's thread."""
        self.fetching.trigger()

    def wait(self) -> None:
        """For what is under way: an agent of one turn has no next one."""
        for task in (self.fetching, self.proposing, self.reporting):
            task.wait(LONGEST_WAIT_SECONDS)

    def has_new_commit(self) -> bool:
        """Whether what was fetched is worth waking up for: not while it cannot be taken."""
        return self.unclean is None and self.fetching.found not in (None, self.head)

    def pull(self, env: Environment) -> None:
        """Takes what was fetched. Raises what kept it from that, which is on record too; nothing of the checkout has
        changed then."""
        self.begin()
        self.unclean = None
        try:
            self.check_clean()
            tip = self.fetching.result()
            if tip:
                self.upstream.take(tip)
        except TunegateError as error:
            self.note(env, error.message)
            raise
        self.note(env, None)

    def check_clean(self) -> None:
        """As `check`, of the files as they are now."""
        try:
            self.upstream.check_clean()
        except TunegateError as error:
            self.unclean = error
            raise

    def note(self, env: Environment, why: str | None) -> None:
        found = self.upstream.head()
        self.head = found.sha
        self.behind = self.upstream.behind() if why else 0
        facts: Pulled = {"upstream": self.name, "commit": found.sha, "author": found.author}
        if why:
            facts["why"] = why
        if facts != env.record.state().git.pulled:
            env.record.append("pulled", **facts)
            by = f"at {found.sha[:12]} by {found.author}" if why is None else f"stays at {found.sha[:12]}"
            env.report_progress(f"{self.name} {by}")

    def check(self) -> None:
        """Raises RefusedError where, as last seen, the checkout's files are not those of the commit: what they pin is
        nobody's request."""
        if self.unclean:
            raise self.unclean

    def pinned_by(self) -> dict[str, str]:
        """The commit of the branch that last changed the YAML, and its author; empty where there is none."""
        found = commit_of(self.upstream.folder, "HEAD", self.path)
        return {"commit": found.sha, "author": found.author} if found else {}

    def write_back(self, env: Environment) -> None:
        """Until the pin says what serves again, or something new."""
        state, pinned = env.record.state(), env.config.release
        if pinned is None or not is_rolled_back(state, pinned) or state.git.proposed:
            self.proposing = BackgroundTask(AT_ONCE)
            return
        self.proposing.begin(partial(propose, self.upstream, self.path, self.gitlab, rollback_of(env, state, pinned)))
        found = self.proposing.result()
        if found:
            keep(env, found)

    def report(self, env: Environment) -> None:
        """What GitLab does not know yet, one commit at a time."""
        state = env.record.state()
        wanted = report_of(state)
        if self.gitlab is None or wanted is None:
            return
        self.unsent = unreported(self.unsent, state.git.reported, wanted)
        if not self.unsent:
            return
        first = next(iter(self.unsent.values()))
        self.reporting.begin(
            partial(
                send,
                self.gitlab,
                first,
                env.config.name,
                self.upstream.branch,
                env.router.public_url,
                state.git.reported,
            )
        )
        try:
            found = self.reporting.result()
        except TunegateError:
            if len(self.unsent) > 1:  # an old commit that GitLab will not hear of keeps no newer one back
                del self.unsent[first.commit]
            raise
        if found:
            env.record.append("reported", **found)


def propose(upstream: Upstream, path: str, gitlab: GitLab | None, rollback: Rollback) -> Proposed:
    """The commit on its branch, and its merge request. After a kill between the two, or before, the same again: neither
    is there twice."""
    sha = upstream.commit_on(
        rollback.branch,
        path,
        lambda text: pinned_text(text, rollback.back, path),
        rollback.message,
        f"{rollback.at[:19]}+00:00",
    )
    url = (
        gitlab.open_merge_request(rollback.branch, upstream.branch, rollback.title, rollback.description)
        if gitlab
        else None
    )
    return {"replaces": rollback.gone, "release": rollback.back, "branch": rollback.branch, "commit": sha, "url": url}


def keep(env: Environment, found: Proposed) -> None:
    env.record.append("proposed", **found)
    env.report_progress(f"the rollback is a commit on {found['branch']}; merge {found['url'] or 'it'}")


def follow(text: str, path: Path, signers: Path | None, poll_seconds: float) -> GitSync:
    """Raises InputError where the YAML is not in a clone with such a remote."""
    from infra.gitlab.api import GitLab

    upstream = Upstream.of(text, signers)
    return GitSync(upstream, path_within(upstream, path), BackgroundTask(poll_seconds), GitLab.from_environment())


def path_within(upstream: Upstream, path: Path) -> str:
    try:
        return path.resolve().relative_to(upstream.folder.resolve()).as_posix()
    except ValueError:
        raise InputError(
            f"{path}: expected a file of the clone {upstream.folder}, which follows {upstream}",
            hint="cd CLONE; tunegate agent ENV",
        ) from None


def write_back(env: Environment, path: Path, follows: str) -> Proposed | None:
    """At once, where no agent is there to do it; None where the pin says what serves."""
    from infra.gitlab.api import GitLab

    state, pinned = env.record.state(), env.config.release
    if pinned is None or not is_rolled_back(state, pinned) or state.git.proposed:
        return state.git.proposed or None
    upstream = Upstream.of(follows)
    found = propose(upstream, path_within(upstream, path), GitLab.from_environment(), rollback_of(env, state, pinned))
    keep(env, found)
    return found
