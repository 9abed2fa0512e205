"""The branch that a checkout follows: forward only, over no hand's change, from a remote that may be gone or hang."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs.errors import ExternalError, InputError, RefusedError
from infra.git.command import git, said
from infra.git.upstream import Upstream
from tests.support.git_remote import Remote, alone, remote, run_git, upstream

__all__ = ["alone", "remote", "upstream"]
pytestmark = pytest.mark.unit


def test_what_is_pushed_is_fetched_without_touching_a_file_and_taken_whole(remote: Remote, upstream: Upstream) -> None:
    before = upstream.head()
    tip = remote.push({"pin.yaml": "release: two\n"})
    assert (
        upstream.fetch() == tip
        and upstream.head() == before
        and (remote.clone / "pin.yaml").read_text() == "release: one\n"
    )
    upstream.take(tip)
    assert (
        upstream.head().sha == tip
        and upstream.head().author == "Ada <ada@localhost>"
        and (remote.clone / "pin.yaml").read_text() == "release: two\n"
    )
    upstream.take(upstream.fetch())
    assert upstream.head().sha == tip


def test_how_far_behind_it_stands_is_what_was_fetched_and_not_taken(remote: Remote, upstream: Upstream) -> None:
    assert upstream.behind() == 0
    remote.push({"pin.yaml": "release: two\n"})
    remote.push({"pin.yaml": "release: three\n"})
    assert upstream.behind() == 0, "nothing was seen yet"
    tip = upstream.fetch()
    assert upstream.behind() == 2
    upstream.take(tip)
    assert upstream.behind() == 0
    run_git(remote.clone, "update-ref", "-d", "refs/remotes/origin/main")
    assert upstream.behind() == 0, "a clone that never fetched the branch"


@pytest.mark.parametrize("story", ["rewound", "amended", "unrelated", "local commit"])
def test_history_that_lost_what_was_taken_is_refused_and_nothing_moves(
    remote: Remote, upstream: Upstream, story: str
) -> None:
    remote.push({"pin.yaml": "release: two\n"})
    upstream.take(upstream.fetch())
    if story == "local commit":
        run_git(remote.clone, "commit", "-q", "--allow-empty", "-m", "mine")
    elif story == "unrelated":
        run_git(remote.person, "checkout", "-q", "--orphan", "other")
        remote.commit({"pin.yaml": "release: three\n"})
        run_git(remote.person, "branch", "-qM", "main")
    else:
        remote.rewind(1)
        remote.commit({"pin.yaml": "release: three\n"}) if story == "amended" else None
    remote.push(force=True)
    head = upstream.head()
    for _ in range(2):
        with pytest.raises(RefusedError, match=f"the newest {head.sha[:12]}: its history was forced"):
            upstream.fetch()
    assert upstream.head() == head and (remote.clone / "pin.yaml").read_text() == "release: two\n"


def test_history_that_comes_back_is_taken_again(remote: Remote, upstream: Upstream) -> None:
    remote.push({"pin.yaml": "release: two\n"})
    upstream.take(upstream.fetch())
    good = run_git(remote.person, "rev-parse", "HEAD")
    remote.rewind(1)
    remote.push(force=True)
    with pytest.raises(RefusedError):
        upstream.fetch()
    run_git(remote.person, "reset", "-q", "--hard", good)
    tip = remote.push({"pin.yaml": "release: three\n"}, force=True)
    assert upstream.fetch() == tip


@pytest.mark.parametrize("change", ["edited", "staged", "deleted"])
def test_a_file_changed_by_hand_is_named_and_kept(remote: Remote, upstream: Upstream, change: str) -> None:
    tip = remote.push({"pin.yaml": "release: two\n"})
    path = remote.clone / "pin.yaml"
    path.unlink() if change == "deleted" else path.write_text("release: mine\n")
    if change == "staged":
        run_git(remote.clone, "add", "-A")
    assert upstream.fetch() == tip
    for call in (upstream.check_clean, lambda: upstream.take(tip)):
        with pytest.raises(RefusedError, match=r"changed by hand: pin\.yaml; expected what origin/main says"):
            call()
    assert upstream.head().sha != tip and path.exists() == (change != "deleted")


def test_files_that_git_does_not_track_are_in_nobodys_way(remote: Remote, upstream: Upstream) -> None:
    (remote.clone / "build").mkdir()
    (remote.clone / "build/events.jsonl").write_text("{}\n")
    tip = remote.push({"pin.yaml": "release: two\n"})
    upstream.take(upstream.fetch())
    assert upstream.head().sha == tip and (remote.clone / "build/events.jsonl").exists()


def test_a_hook_of_the_clone_is_not_run(remote: Remote, upstream: Upstream) -> None:
    hook = remote.clone / ".git/hooks/post-merge"
    hook.write_text(f"#!/bin/sh\ntouch {remote.folder}/ran\n")
    hook.chmod(0o755)
    remote.push({"pin.yaml": "release: two\n"})
    upstream.take(upstream.fetch())
    assert not (remote.folder / "ran").exists()


def test_a_remote_that_is_gone_is_an_outside_error_without_its_password(remote: Remote, upstream: Upstream) -> None:
    run_git(remote.clone, "remote", "set-url", "origin", "http://bot:secret-token@127.0.0.1:9/x.git")
    with pytest.raises(ExternalError, match="git fetch: ") as error:
        upstream.fetch()
    assert "secret-token" not in str(error.value)
    assert (
        said("fatal: unable to access 'https://bot:glpat-1@host/x.git/'\nhint: no")
        == "fatal: unable to access 'https://host/x.git/'"
    )


def test_a_git_that_hangs_is_ended_with_what_it_started(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address is a program that never answers, as a firewall that drops packets."""
    marker = remote.folder / "pid"
    run_git(remote.clone, "config", "protocol.ext.allow", "always")
    run_git(remote.clone, "remote", "set-url", "origin", f"ext::{remote.folder}/hang")
    (remote.folder / "hang").write_text(f"#!/bin/sh\necho $$ > {marker}\nexec sleep 600\n")
    (remote.folder / "hang").chmod(0o755)
    with pytest.raises(ExternalError, match=r"git fetch: no answer within 0\.5 s"):
        git(remote.clone, "fetch", "origin", seconds=0.5)
    pid = int(marker.read_text())
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists() or "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
            break
        time.sleep(0.05)
    else:
        pytest.fail(f"process {pid} is still there")


@pytest.mark.parametrize(
    ("text", "remote_name", "branch"),
    [
        ("main", "origin", "main"),
        ("origin/main", "origin", "main"),
        ("release/1.0", "origin", "release/1.0"),
        ("origin/release/1", "origin", "release/1"),
    ],
)
def test_a_branch_is_named_with_or_without_its_remote(remote: Remote, text: str, remote_name: str, branch: str) -> None:
    found = Upstream.of(text, folder=remote.clone)
    assert (found.remote, found.branch, str(found)) == (remote_name, branch, f"{remote_name}/{branch}")


@pytest.mark.parametrize("text", ["", "origin/", "a b", "-x", "a..b", "origin/a~1"])
def test_what_is_no_branch_is_an_input_error(remote: Remote, text: str) -> None:
    with pytest.raises(InputError, match="expected REMOTE/BRANCH, REMOTE one of origin"):
        Upstream.of(text, folder=remote.clone)


def test_outside_of_a_clone_there_is_nothing_to_follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(InputError, match="not a git repository"):
        Upstream.of("main", folder=tmp_path)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="No such file"):
        Upstream.of("main", folder=tmp_path)


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=st.lists(st.sampled_from(["push", "take", "rewind", "edit", "restore"]), min_size=1, max_size=6))
def test_whatever_happens_a_checkout_only_moves_forward_along_commits_that_were_on_the_branch(
    tmp_path_factory: pytest.TempPathFactory, story: list[str]
) -> None:
    remote = Remote(tmp_path_factory.mktemp("story"))
    remote.begin({"pin.yaml": "release: 0\n"})
    upstream = Upstream.of("main", folder=remote.clone)
    pin = remote.clone / "pin.yaml"
    for number, step in enumerate(story, 1):
        before, edited = upstream.head().sha, run_git(remote.clone, "status", "--porcelain")
        if step == "push":
            remote.push({"pin.yaml": f"release: {number}\n"}, force=True)
        elif step == "rewind" and run_git(remote.person, "rev-list", "--count", "HEAD") != "1":
            remote.rewind(1)
            remote.push(force=True)
        elif step == "edit":
            pin.write_text("release: mine\n")
        elif step == "restore":
            run_git(remote.clone, "checkout", "-q", "--", ".")
        elif step == "take":
            try:
                upstream.take(upstream.fetch())
                assert upstream.head().sha == remote.branches()["main"] and (
                    not edited or upstream.head().sha == before
                )
            except RefusedError as error:
                assert edited or "forced" in error.message
        now = upstream.head().sha
        assert run_git(remote.clone, "rev-list", before, f"^{now}") == "" and (step == "take" or now == before)
        assert not edited or step == "restore" or pin.read_text() == "release: mine\n"
