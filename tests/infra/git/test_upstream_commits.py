"""Whose commits a followed branch has: those signed by a listed key, where asked; a rollback is one of the bot's,
however often it is made."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import infra.git.command
from configs.errors import ExternalError, InputError, RefusedError
from infra.git.command import commit_of
from infra.git.upstream import Upstream
from tests.support.git_remote import Remote, alone, remote, run_git, upstream

__all__ = ["alone", "remote", "upstream"]
pytestmark = pytest.mark.unit


def signed(remote: Remote) -> Upstream:
    return Upstream.of("main", remote.signers, remote.clone)


def test_only_commits_signed_by_a_listed_key_are_taken(remote: Remote) -> None:
    ada, eve = remote.key("ada", listed=True), remote.key("eve")
    upstream = signed(remote)
    tip = remote.push({"pin.yaml": "release: two\n"}, ada)
    upstream.take(upstream.fetch())
    for key in (None, eve):
        bad = remote.push({"pin.yaml": f"release: by {key}\n"}, key)
        with pytest.raises(RefusedError, match=f"not signed by a key of .*signers: {bad[:12]} by Ada"):
            upstream.fetch()
        remote.push({"pin.yaml": "release: three\n"}, ada)  # a good one on top makes the bad one no better
        with pytest.raises(RefusedError, match=bad[:12]):
            upstream.fetch()
        remote.rewind(2)
        remote.push(force=True)
        assert upstream.fetch() == tip == upstream.head().sha


def test_a_merge_brings_in_only_signed_commits(remote: Remote) -> None:
    ada, upstream = remote.key("ada", listed=True), signed(remote)
    run_git(remote.person, "checkout", "-qb", "side")
    bad = remote.commit({"other.txt": "smuggled\n"})
    run_git(remote.person, "checkout", "-q", "main")
    run_git(remote.person, "-c", f"user.signingkey={ada}", "merge", "-q", "--no-ff", "-S", "-m", "merge", "side")
    remote.push()
    with pytest.raises(RefusedError, match=bad[:12]):
        upstream.fetch()


def test_a_signature_of_another_kind_and_a_signers_file_that_vanished_count_as_none(
    remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, upstream = remote.key("ada", listed=True), signed(remote)
    remote.push({"pin.yaml": "release: two\n"}, ada)
    listed = remote.signers.read_text()
    remote.signers.unlink()
    with pytest.raises(RefusedError, match="not signed"):
        upstream.fetch()
    remote.signers.write_text(listed)
    remote.push(force=True)
    # A commit that says it is signed by GPG: whatever gpg on this machine says, it is not asked.
    forged = remote.folder / "gpg"
    forged.write_text("#!/bin/sh\necho '[GNUPG:] GOODSIG 1 x' >&1\necho '[GNUPG:] TRUST_ULTIMATE' >&1\nexit 0\n")
    forged.chmod(0o755)
    run_git(remote.clone, "config", "gpg.program", str(forged))
    body = run_git(remote.person, "cat-file", "commit", "HEAD")
    head, _, message = body.partition("gpgsig ")
    fake = f"{head}gpgsig -----BEGIN PGP SIGNATURE-----\n \n AAAA\n -----END PGP SIGNATURE-----\n\nforged\n"
    sha = subprocess.run(
        ["git", "hash-object", "-t", "commit", "-w", "--stdin"],
        cwd=remote.person,
        input=fake,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    run_git(remote.person, "reset", "-q", "--hard", sha)
    remote.push(force=True)
    assert message and "PGP" in run_git(remote.person, "cat-file", "commit", "HEAD")
    with pytest.raises(RefusedError, match=sha[:12]):
        upstream.fetch()


def test_who_may_sign_is_not_for_what_is_pulled_to_say(remote: Remote) -> None:
    inside = remote.clone / "signers"
    inside.write_text("")
    link = remote.folder / "link"
    link.symlink_to(inside)
    for path in (inside, link, remote.folder / "missing"):
        with pytest.raises(InputError, match="expected a file outside of"):
            Upstream.of("main", path, remote.clone)


def roll_back(upstream: Upstream, to: str = "one") -> str:
    return upstream.commit_on(
        "rollback/x",
        "pin.yaml",
        lambda text: text.replace("two", to),
        "Roll back\n\nIt was bad.",
        "2026-11-25T10:00:00+00:00",
    )


def test_a_rollback_is_a_commit_of_the_bot_on_what_was_taken_that_changes_the_pin_alone(
    remote: Remote, upstream: Upstream
) -> None:
    base = remote.push({"pin.yaml": "# a comment\nrelease: two\n"})
    upstream.take(upstream.fetch())
    sha = roll_back(upstream)
    assert remote.branches() == {"main": base, "rollback/x": sha}
    assert run_git(remote.bare, "show", "--format=%an|%ae|%s|%b|%P", "--name-only", sha).splitlines() == [
        f"tunegate bot|tunegate-bot@noreply.invalid|Roll back|It was bad.|{base}", "", "pin.yaml",
    ]  # fmt: skip
    assert run_git(remote.bare, "show", f"{sha}:pin.yaml") == "# a comment\nrelease: one"
    assert upstream.head().sha == base and run_git(remote.clone, "status", "--porcelain") == ""


def test_made_again_after_a_kill_it_is_the_same_commit_and_one_branch(remote: Remote, upstream: Upstream) -> None:
    remote.push({"pin.yaml": "release: two\n"})
    upstream.take(upstream.fetch())
    assert roll_back(upstream) == roll_back(upstream)
    remote.push({"other.txt": "meanwhile\n"})
    upstream.take(upstream.fetch())
    again = roll_back(upstream)
    assert remote.branches()["rollback/x"] == again and commit_of(remote.clone, f"{again}^") == upstream.head()


def test_it_is_signed_where_the_clone_says_so_and_then_it_is_taken(remote: Remote) -> None:
    ada, bot = remote.key("ada", listed=True), remote.key("bot", listed=True)
    for name, value in {"commit.gpgsign": "true", "gpg.format": "ssh", "user.signingkey": str(bot)}.items():
        run_git(remote.clone, "config", name, value)
    upstream = signed(remote)
    remote.push({"pin.yaml": "release: two\n"}, ada)
    upstream.take(upstream.fetch())
    sha = roll_back(upstream)
    assert sha == roll_back(upstream)
    run_git(remote.bare, "update-ref", "refs/heads/main", sha)  # merged
    assert upstream.fetch() == sha


def test_a_branch_that_somebody_moves_at_this_moment_is_left_to_them(
    remote: Remote, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.push({"pin.yaml": "release: two\n"})
    upstream.take(upstream.fetch())
    real = infra.git.command.git

    def raced(folder: Path, *arguments: str, **facts: object) -> str:
        if arguments[0] == "push":
            run_git(remote.bare, "update-ref", "refs/heads/rollback/x", "main")
        return real(folder, *arguments, **facts)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr("infra.git.upstream.git", raced)
    with pytest.raises(ExternalError, match="git push: "):
        roll_back(upstream)
    assert remote.branches()["rollback/x"] == remote.branches()["main"]
