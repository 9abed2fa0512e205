"""A pin reaches the merge request's branch of a real bare repository: once, whole, signed where git says so, and never
over somebody's newer work."""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from configs.errors import ExternalError, InputError, RefusedError
from configs.paths import RunPaths
from configs.release import Manifest, digest_of, list_files
from configs.run.serving import Serving
from infra.gitlab import pin
from infra.gitlab.pin import Branch, pin_release
from tests.support.fake_servers import RUN

pytestmark = pytest.mark.unit
POINTER = "outs:\n- md5: 3c61d23f54a47e5124272a29b8e23526.dir\n  path: x\n"
STATIC = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
LEFT = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "TUNEGATE_GITLAB_TOKEN", "CI_JOB_TOKEN", "CI_SERVER_URL")


def git(*arguments: str, cwd: Path | None = None) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=cwd).stdout.strip()


def lock_of(*names: str) -> str:
    return "schema: '2.0'\nstages:\n" + "".join(f"  train@{name}:\n    cmd: train {name}\n" for name in names)


def release(name: str, content: str = "weights") -> str:
    """build/NAME/release, its published pointer and its dvc.lock, as the jobs before left them; returns the
    reference."""
    folder = RunPaths.of(name).release
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_text(content)
    files = list_files(folder)
    facts = {
        "base": {},
        "data": {},
        "quantization": {},
        "git_revision": "t",
        "versions": {},
        "config": RUN,
        "created": "2026-11-25",
    }
    manifest = Manifest(name=name, digest=digest_of(files), task="causal-lm", files=files, serving=Serving(), **facts)  # type: ignore[arg-type]
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    Path("releases").mkdir(exist_ok=True)
    Path(f"releases/{name}@{manifest.digest[7:19]}.dvc").write_text(POINTER)
    Path("dvc.lock").write_text(lock_of(name, "stranger").replace("cmd: train", "cmd: retrain"))
    return manifest.reference


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """project.git with the branch `tune`, and the working directory a job's clone of it."""
    for name in LEFT:
        monkeypatch.delenv(name, raising=False)
    for name, value in STATIC.items():
        monkeypatch.setenv(name, value)
    origin = tmp_path / "project.git"
    git("init", "-q", "--bare", "-b", "main", str(origin))
    git("-C", str(origin), "config", "receive.advertisePushOptions", "true")
    work = tmp_path / "work"
    git("clone", "-q", str(origin), str(work))
    monkeypatch.chdir(work)
    git("checkout", "-qb", "tune")
    Path("configs/deploy").mkdir(parents=True)
    for name in ("sentiment", "staging"):
        Path(f"configs/deploy/{name}.yaml").write_text(
            f"# tunegate deploy {name}\nname: {name}\nrelease: null  # by digest\nmodel: m\n"
        )
    Path(".gitignore").write_text("/build/\n/releases/*\n!/releases/*.dvc\n")
    Path("dvc.lock").write_text(lock_of("other", "smoke"))
    git("add", "-A")
    git("commit", "-qm", "as it stands")
    git("push", "-q", "origin", "tune")
    return origin


def branch_of(bare: Path) -> Branch:
    return Branch(str(bare), "tune", git("rev-parse", "HEAD"))


def elsewhere(bare: Path, path: str, text: str) -> None:
    """Somebody pushes a commit of their own to the branch."""
    folder = bare.parent / f"else-{len(list(bare.parent.iterdir()))}"
    git("clone", "-qb", "tune", str(bare), str(folder))
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(text)
    git("add", "-A", cwd=folder)
    git("commit", "-qm", "mine", cwd=folder)
    git("push", "-q", "origin", "tune", cwd=folder)


def show(bare: Path, path: str) -> str:
    return git("-C", str(bare), "show", f"tune:{path}")


def test_pointer_lock_and_digest_arrive_in_one_commit_by_a_bot(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI_JOB_URL", "https://gitlab.example.com/job/5")
    reference, branch = release("smoke"), branch_of(bare)
    commit = pin_release("smoke", ["sentiment", "staging"], branch)
    assert commit == git("-C", str(bare), "rev-parse", "tune")
    changed = git("-C", str(bare), "diff", "--name-only", branch.judged, "tune").splitlines()
    assert changed == [
        "configs/deploy/sentiment.yaml",
        "configs/deploy/staging.yaml",
        "dvc.lock",
        f"releases/smoke@{reference[13:25]}.dvc",
    ]
    for name in ("sentiment", "staging"):
        assert (
            show(bare, f"configs/deploy/{name}.yaml")
            == f"# tunegate deploy {name}\nname: {name}\nrelease: {reference}  # by digest\nmodel: m"
        )
    author, committer, message = git("-C", str(bare), "log", "-1", "--format=%an <%ae>%n%cn%n%B", "tune").split("\n", 2)
    assert (author, committer) == ("tunegate bot <tunegate-bot@noreply.invalid>", "tunegate bot")
    assert reference in message and branch.judged in message and "https://gitlab.example.com/job/5" in message
    assert "skip ci" not in message, "a fast-forward merge would then deploy nothing"


def test_the_checkout_of_the_job_is_left_as_it_was(bare: Path) -> None:
    release("smoke")
    before = (git("rev-parse", "HEAD"), git("status", "--short"))
    pin_release("smoke", ["sentiment"], branch_of(bare))
    assert (git("rev-parse", "HEAD"), git("status", "--short")) == before
    assert len(git("worktree", "list").splitlines()) == 1


def test_the_lock_takes_this_configs_stages_and_keeps_the_others(bare: Path) -> None:
    release("smoke")
    pin_release("smoke", ["sentiment"], branch_of(bare))
    stages = YAML(typ="safe").load(show(bare, "dvc.lock"))["stages"]
    assert stages == {"train@other": {"cmd": "train other"}, "train@smoke": {"cmd": "retrain smoke"}}


def test_a_second_time_pushes_nothing(bare: Path) -> None:
    release("smoke")
    branch = branch_of(bare)
    commit = pin_release("smoke", ["sentiment"], branch)
    assert pin_release("smoke", ["sentiment"], branch) is None
    assert git("-C", str(bare), "rev-parse", "tune") == commit


def test_two_configs_of_one_merge_request_pin_one_after_the_other(bare: Path) -> None:
    branch = branch_of(bare)
    first = release("smoke")
    pin_release("smoke", ["sentiment"], branch)
    second = release("calls")
    pin_release("calls", ["staging"], branch)
    assert first in show(bare, "configs/deploy/sentiment.yaml") and second in show(bare, "configs/deploy/staging.yaml")
    assert git("-C", str(bare), "rev-list", "--count", f"{branch.judged}..tune") == "2"


def test_a_push_that_comes_in_between_is_gone_around(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference, branch, push = release("smoke"), branch_of(bare), pin.push
    pushed: list[Any] = []

    def late(tree: Path, to: Branch) -> bool:
        if not pushed:
            elsewhere(bare, "releases/other@0123456789ab.dvc", POINTER)
        pushed.append(push(tree, to))
        return pushed[-1]

    monkeypatch.setattr(pin, "push", late)
    assert pin_release("smoke", ["sentiment"], branch) is not None
    assert pushed == [False, True]
    assert reference in show(bare, "configs/deploy/sentiment.yaml")
    assert show(bare, "releases/other@0123456789ab.dvc")


@pytest.mark.parametrize(
    "path", ["configs/finetune/smoke.yaml", "configs/gates/smoke.yaml", "README.md", "configs/deploy/deep/x.yaml"]
)
def test_a_branch_that_moved_on_by_more_than_pins_is_left_to_its_newer_pipeline(bare: Path, path: str) -> None:
    release("smoke")
    branch = branch_of(bare)
    elsewhere(bare, path, "anew")
    head = git("-C", str(bare), "rev-parse", "tune")
    with pytest.raises(RefusedError, match=path):
        pin_release("smoke", ["sentiment"], branch)
    assert git("-C", str(bare), "rev-parse", "tune") == head


def test_a_release_without_a_pointer_is_not_pinned(bare: Path) -> None:
    reference = release("smoke")
    Path(f"releases/smoke@{reference[13:25]}.dvc").unlink()
    with pytest.raises(InputError, match=r"no pointer to it"):
        pin_release("smoke", ["sentiment"], branch_of(bare))


def test_an_environment_without_a_yaml_is_an_error_and_pushes_nothing(bare: Path) -> None:
    release("smoke")
    branch = branch_of(bare)
    with pytest.raises((InputError, OSError)):
        pin_release("smoke", ["sentiment", "nowhere"], branch)
    assert git("-C", str(bare), "rev-parse", "tune") == branch.judged


def test_a_remote_that_is_gone_is_an_outside_error(bare: Path) -> None:
    release("smoke")
    branch = branch_of(bare)
    bare.rename(bare.with_name("gone.git"))
    with pytest.raises(ExternalError, match="git fetch"):
        pin_release("smoke", ["sentiment"], branch)


def test_the_commit_is_signed_where_gits_settings_say_so(bare: Path, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    allowed = tmp_path / "signers"
    allowed.write_text(f"tunegate-bot@noreply.invalid {(tmp_path / 'key.pub').read_text()}")
    settings = {
        "gpg.format": "ssh",
        "user.signingKey": str(tmp_path / "key"),
        "commit.gpgSign": "true",
        "gpg.ssh.allowedSignersFile": str(allowed),
    }
    for name, value in settings.items():
        git("config", name, value)
    release("smoke")
    commit = pin_release("smoke", ["sentiment"], branch_of(bare))
    assert commit is not None
    git("fetch", "-q", "origin", "tune")
    git("verify-commit", commit)  # raises on a bad signature, and on none


def test_the_push_asks_for_no_pipeline(bare: Path) -> None:
    hook = bare / "hooks/pre-receive"
    hook.write_text(f'#!/bin/sh\necho "$GIT_PUSH_OPTION_COUNT $GIT_PUSH_OPTION_0" > {bare.parent}/options\n')
    hook.chmod(0o755)
    release("smoke")
    pin_release("smoke", ["sentiment"], branch_of(bare))
    assert (bare.parent / "options").read_text() == "1 ci.skip\n"


# What GitLab says about the branch


def test_an_error_of_git_shows_no_token(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI_SERVER_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("CI_JOB_TOKEN", "a-token")
    release("smoke")
    branch = Branch("http://127.0.0.1:9/group/project.git", "tune", git("rev-parse", "HEAD"))
    with pytest.raises(ExternalError) as caught:
        pin_release("smoke", ["sentiment"], branch)
    secret = base64.b64encode(b"gitlab-ci-token:a-token").decode()
    assert "a-token" not in str(caught.value) and secret not in str(caught.value)
    assert os.environ.get("GIT_CONFIG_COUNT") is None
