"""A branch of a remote that a checkout follows: forward only, signed by listed keys where that is asked for, never over
what a hand changed here."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from configs.errors import ExternalError, InputError, RefusedError
from infra.git.command import BOT, Commit, commit_of, git

MOST_NAMED = 5


@dataclass(frozen=True)
class Upstream:
    """`folder` is the top of the checkout, whose HEAD is what was taken so far, and is trusted; `signers` is git's
    allowed_signers file."""

    folder: Path
    remote: str
    branch: str
    signers: Path | None = None

    @classmethod
    def of(cls, text: str, signers: Path | None = None, folder: Path | None = None) -> Upstream:
        """`origin/main`, or `main` of origin. Raises InputError where there is no such remote, or who may sign can be
        changed by what is pulled."""
        try:
            top = Path(git(folder or Path.cwd(), "rev-parse", "--show-toplevel"))
            remotes = git(top, "remote").splitlines()
        except ExternalError as error:
            raise InputError(
                f"--pull {text}: {error.message}", hint="git clone ADDRESS; start the agent in the clone"
            ) from error
        first, slash, rest = text.partition("/")
        remote, branch = (first, rest) if slash and first in remotes else ("origin", text)
        if remote not in remotes or not is_branch_name(top, branch):
            raise InputError(
                f"--pull {text}: expected REMOTE/BRANCH, REMOTE one of {', '.join(remotes) or 'none'}",
                hint="git remote -v",
            )
        if signers and (not signers.is_file() or signers.resolve().is_relative_to(top.resolve())):
            raise InputError(
                f"--signers {signers}: expected a file outside of {top}, for whoever changes it decides who may sign",
                hint="man ssh-keygen",
            )
        return cls(top, remote, branch, signers.resolve() if signers else None)

    def __str__(self) -> str:
        return f"{self.remote}/{self.branch}"

    def head(self) -> Commit:
        """What the checkout stands at."""
        found = commit_of(self.folder, "HEAD")
        assert found  # git fails where there is no commit
        return found

    @property
    def tracked(self) -> str:
        return f"refs/remotes/{self.remote}/{self.branch}"

    def behind(self) -> int:
        """Commits of the branch that the last fetch saw and the checkout has not; 0 where none was fetched yet."""
        try:
            return int(git(self.folder, "rev-list", "--count", f"HEAD..{self.tracked}"))
        except ExternalError:
            return 0

    def fetch(self) -> str:
        """The remote's newest commit, if it may be taken; changes no file of the checkout. Raises ExternalError where
        the remote does not answer, RefusedError for history that lost commits which were taken, or with a commit that
        no listed key signed."""
        git(self.folder, "fetch", "--quiet", "--no-tags", self.remote, f"+refs/heads/{self.branch}:{self.tracked}")
        tip = git(self.folder, "rev-parse", self.tracked)
        lost = git(self.folder, "rev-list", "HEAD", f"^{tip}").splitlines()
        if lost:
            message = (
                f"{self} at {tip[:12]} lacks {len(lost)} commits that were taken, the newest {lost[0][:12]}: "
                "its history was forced"
            )
            raise RefusedError(
                message,
                hint=f"bring {lost[0][:12]} back to {self.branch}, or, if it was meant: "
                f"git reset --hard {self} in the agent's clone",
            )
        self.check_signatures(tip)
        return tip

    def check_signatures(self, tip: str) -> None:
        """Every new commit, those that a merge brings in as well: each of them changes what is run."""
        if self.signers is None:
            return
        bad = [
            sha
            for sha in git(self.folder, "rev-list", "--reverse", f"HEAD..{tip}").splitlines()
            if not self.is_signed(sha)
        ]
        if bad:
            commits = [(sha, commit_of(self.folder, sha)) for sha in bad[:MOST_NAMED]]
            named = ", ".join(f"{sha[:12]} by {commit.author if commit else 'nobody known'}" for sha, commit in commits)
            more = f" and {len(bad) - MOST_NAMED} more" if len(bad) > MOST_NAMED else ""
            raise RefusedError(
                f"{self}: not signed by a key of {self.signers}: {named}{more}",
                hint=f"git log --show-signature {bad[0][:12]}",
            )

    def is_signed(self, sha: str) -> bool:
        """By a listed SSH key. A signature by GPG or X.509 counts as none, for it would be held against this machine's
        keyring, not against the list."""
        settings = (
            f"gpg.ssh.allowedSignersFile={self.signers}",
            "gpg.minTrustLevel=fully",
            "gpg.program=false",
            "gpg.x509.program=false",
        )
        try:
            git(self.folder, *(word for one in settings for word in ("-c", one)), "verify-commit", sha)
        except ExternalError:
            return False
        return True

    def take(self, tip: str) -> None:
        """Moves the checkout forward to `tip`, as `fetch` gave it. Raises RefusedError where files of it were changed
        by hand."""
        if tip != self.head().sha:
            self.check_clean()
            git(
                self.folder,
                "-c",
                "core.hooksPath=/dev/null",
                "-c",
                "merge.verifySignatures=false",
                "merge",
                "--ff-only",
                "--quiet",
                tip,
            )

    def check_clean(self) -> None:
        changed = [line[3:] for line in git(self.folder, "status", "--porcelain", "--untracked-files=no").splitlines()]
        if changed:
            names = ", ".join(changed[:MOST_NAMED]) + (
                f" and {len(changed) - MOST_NAMED} more" if len(changed) > MOST_NAMED else ""
            )
            raise RefusedError(
                f"{self.folder}: changed by hand: {names}; expected what {self} says",
                hint=f"git -C {self.folder} stash",
            )

    def commit_on(self, branch: str, path: str, change: Callable[[str], str], message: str, date: str) -> str:
        """Pushes a commit that changes `path` alone, on top of what was taken; returns it. Signed where the clone says
        commit.gpgsign.

        It is made without a work tree, and `date` makes it the same commit each time: after a kill it may be made and
        pushed again.
        """
        base = self.head().sha  # once: the checkout may move on meanwhile
        text = git(self.folder, "show", f"{base}:{path}") + "\n"
        mode = git(self.folder, "ls-tree", base, path).split()[0]
        blob = git(self.folder, "hash-object", "-w", "--stdin", text=change(text))
        with tempfile.TemporaryDirectory() as folder:
            index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
            git(self.folder, "read-tree", base, environment=index)
            git(self.folder, "update-index", "--cacheinfo", f"{mode},{blob},{path}", environment=index)
            tree = git(self.folder, "write-tree", environment=index)
        who = {
            f"GIT_{role}_{name}": value
            for role in ("AUTHOR", "COMMITTER")
            for name, value in (BOT | {"DATE": date}).items()
        }
        sign = (
            ["-S"]
            if git(self.folder, "config", "--default", "false", "--type=bool", "--get", "commit.gpgsign") == "true"
            else []
        )
        sha = git(self.folder, "commit-tree", tree, "-p", base, *sign, text=message, environment=who)
        self.push(sha, branch)
        return sha

    def push(self, sha: str, branch: str) -> None:
        """A branch of ours alone: what an earlier kill left there is written over, unless it changes at this very
        moment."""
        there = git(self.folder, "ls-remote", self.remote, f"refs/heads/{branch}").split()[:1]
        lease = f"--force-with-lease=refs/heads/{branch}:{there[0] if there else ''}"
        git(self.folder, "push", "--quiet", "--no-verify", lease, self.remote, f"{sha}:refs/heads/{branch}")


def is_branch_name(folder: Path, text: str) -> bool:
    try:
        git(folder, "check-ref-format", "--branch", text)
    except ExternalError:
        return False
    return True
