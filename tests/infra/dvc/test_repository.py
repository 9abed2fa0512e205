"""DVC is used in silence: what is waited for is said by our own commands."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.terminal import run_on_terminal

pytestmark = pytest.mark.unit
CODE = """
from infra.dvc.repository import repository
with repository() as repo:
    (stage,) = repo.add("rows")
    repo.push("rows.dvc")
    print("pushed")
"""


def test_dvc_leaves_no_bar_and_no_spinner_on_the_screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc.repo import Repo

    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    with Repo.init(".") as repo, repo.config.edit() as settings:
        settings["remote"]["here"] = {"url": str(tmp_path / "remote")}
        settings["core"]["remote"] = "here"
    Path("rows").mkdir()
    for number in range(20):
        Path(f"rows/{number}").write_text(str(number))
    assert run_on_terminal(CODE).removesuffix("\x1b[0m") == "pushed\r\n"  # colorama's, at the end of every process
    assert any(Path("remote").rglob("*"))
