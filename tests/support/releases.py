"""A repository to publish from, and runs in it as the stages leave them, tiny; what a folder holds, and what git does not know yet."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from configs.paths import RunPaths
from configs.release import Manifest, digest_of, list_files
from configs.run.serving import Serving
from configs.verdict import Outcome, Verdict
from tests.paths import ROOT


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with this project's own DVC settings."""
    (tmp_path / ".dvc").mkdir()
    for name in (".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / ".git" / "dvc-site"))
    return tmp_path


def make_run(name: str = "demo", *, weights: bytes = b"weights", outcome: Outcome = "pass", created: str = "2026-11-24") -> tuple[RunPaths, Manifest]:
    """build/NAME as the stages leave it, tiny."""
    paths = RunPaths.of(name)
    shutil.rmtree(paths.root, ignore_errors=True)
    for folder in (paths.release, paths.evaluation / "base"):
        folder.mkdir(parents=True)
    (paths.release / "model.safetensors").write_bytes(weights)
    files = list_files(paths.release)
    facts: dict[str, Any] = {"base": {}, "data": {}, "quantization": {}, "git_revision": "x", "versions": {}, "config": {}, "created": created}
    manifest = Manifest(name=name, digest=digest_of(files), task="causal-lm", files=files, serving=Serving(), **facts)
    (paths.release / "manifest.json").write_text(manifest.model_dump_json())
    for text in ("metrics.json", "base/metrics.json", "vllm.log", "answers-0123.jsonl"):
        (paths.evaluation / text).write_text("{}")
    Verdict(release=manifest.reference, outcome=outcome, results=[]).write(paths.gate / "verdict.json")
    return paths, manifest


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def untracked() -> list[str]:
    found = subprocess.run(["git", "status", "--short", "--untracked-files=all", "releases", "build"], capture_output=True, text=True, check=True)
    return [line[3:] for line in found.stdout.splitlines()]


def evaluation(folder: Path, *names: str, text: str = "1") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(f"{name} {text}")
    return folder


class Killed(BaseException):
    """No handler of ours may catch it, as none catches SIGKILL."""
