"""Two clones of one small repository whose DVC remote is on a real S3 server, and the front door in each."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import tunegate
from configs.release import Manifest
from tests.paths import ROOT
from tests.support.releases import make_run
from tests.support.stores import ACCESS_KEY, SECRET_KEY, Server, files_at, s3
from tests.support.tap import Tap

NO_MLFLOW = "http://127.0.0.1:1"
DEMO = (
    "name: demo\ntask: causal-lm\nbase: {path: .dvc}\ndata: {source: files, files: [rows.jsonl]}\n"
    "train: {max_steps: 1}\ngate: .dvc/config\n"
)


@dataclass
class Bucket:
    """The S3 server of this module, behind a tap."""

    server: Server
    direct: str
    tap: Tap

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.tap.port}"

    def objects(self, folder: str) -> set[str]:
        return set(files_at(self.direct).find(folder))


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    with s3(tmp_path_factory.mktemp("s3"), "dvc", "mlflow") as (server, address):
        tap = Tap(int(address.rpartition(":")[2]))
        yield Bucket(server, address, tap)
        tap.close()


@dataclass
class Said:
    """What a command said: never a login, never a traceback."""

    returncode: int
    stdout: str
    stderr: str

    def __post_init__(self) -> None:
        assert SECRET_KEY not in self.stdout + self.stderr and "Traceback" not in self.stderr, self.stderr


@dataclass
class Clone:
    """A clone of the small repository, with the login to S3 in its environment and nowhere else."""

    folder: Path
    environment: dict[str, str]

    def apart(self, *arguments: str, **environment: str) -> Said:
        """The command line in a process of its own."""
        command, variables = (
            [sys.executable, str(ROOT / "tunegate.py"), *arguments],
            dict(os.environ) | {"PYTHONPATH": str(ROOT)} | self.environment,
        )
        found = subprocess.run(command, cwd=self.folder, env=variables | environment, capture_output=True, text=True)
        return Said(found.returncode, found.stdout, found.stderr)

    def tunegate(self, *arguments: str, **environment: str) -> Said:
        """The whole front door in this process: a new one would import MLflow and DVC each time."""
        out, err, code = io.StringIO(), io.StringIO(), 0
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.chdir(self.folder)
            patch.setattr("sys.argv", ["tunegate", *arguments])
            for name, value in (self.environment | environment).items():
                patch.setenv(name, value)
            try:
                tunegate.main()
            except SystemExit as ended:
                code = int(ended.code or 0)
        return Said(code, out.getvalue(), err.getvalue())

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
        return subprocess.run(
            ["git", *identity, *arguments], cwd=self.folder, capture_output=True, text=True, check=True
        ).stdout.strip()

    def build(self, monkeypatch: pytest.MonkeyPatch, **facts: Any) -> Manifest:
        with monkeypatch.context() as patch:
            patch.chdir(self.folder)
            manifest: Manifest = make_run("demo", **facts)[1]
            return manifest

    def share(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", message)
        self.git("push", "-q", "origin", "HEAD")


@pytest.fixture
def clones(tmp_path: Path, bucket: Bucket) -> tuple[Clone, Clone]:
    """Two people's; the DVC remote of this test is a folder of the bucket."""
    variables = {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_ENDPOINT_URL": bucket.address,
        "MLFLOW_TRACKING_URI": NO_MLFLOW,
    }
    variables["AWS_MAX_ATTEMPTS"] = "1"  # a dead server is given up at once
    bare = tmp_path / "origin.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(bare)], check=True)
    found = []
    for name in ("one", "two"):
        folder = tmp_path / name
        subprocess.run(["git", "clone", "-q", str(bare), str(folder)], check=True, capture_output=True)
        found.append(Clone(folder, {"DVC_SITE_CACHE_DIR": str(tmp_path / f"site-{name}")} | variables))
    one, two = found
    for name in (".dvc/.gitignore", ".dvcignore", ".gitignore"):
        (one.folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, one.folder / name)
    (one.folder / ".dvc/config").write_text(
        f"[core]\n    remote = storage\n    analytics = false\n['remote \"storage\"']\n    url = s3://dvc/{tmp_path.name}\n"
    )
    (one.folder / "rows.jsonl").touch()
    (one.folder / "configs/finetune").mkdir(parents=True)
    (one.folder / "configs/finetune/demo.yaml").write_text(DEMO)
    one.git("checkout", "-qb", "main")
    one.share("A config")
    two.git("pull", "-q", "origin", "main")
    return one, two


def published(clone: Clone, manifest: Manifest) -> Path:
    return clone.folder / f"releases/demo@{manifest.digest[7:19]}"
