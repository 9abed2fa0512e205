"""docs/ci.md: what it lists is checked, and the pipeline that it shows for another system is valid."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.support.gitlab_pages import MAIN, page

pytestmark = pytest.mark.unit


def ci_page() -> str:
    return (ROOT / "docs/ci.md").read_text(encoding="utf8")


def test_what_no_local_runner_shows_is_listed_with_a_check_that_exists() -> None:
    checks = {
        name
        for path in (ROOT / "tests").glob("test_gitlab*.py")
        for name in re.findall(r"(?m)^def (test_\w+)", path.read_text(encoding="utf8"))
    }
    table = ci_page().partition("## What no local runner shows")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 10
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row)
        assert named and set(named) <= checks, row


def test_the_page_names_every_variable_that_a_project_may_set() -> None:
    own = {"TESTS", "IMAGE", "ACCELERATOR", "UV_CACHE_DIR", "GIT_CLEAN_FLAGS"}
    assert [name for name in page(MAIN)["variables"] if name not in own and f"`{name}`" not in ci_page()] == []


def test_the_github_equivalent_is_valid_and_runs_the_same_commands(tmp_path: Path) -> None:
    text = re.findall(r"```yaml\n(.*?)```", ci_page(), flags=re.DOTALL)[0]
    (tmp_path / "merge-request.yml").write_text(text, encoding="utf8")
    checker = [
        str(ROOT / ".venv/bin/check-jsonschema"),
        "--builtin-schema",
        "vendor.github-workflows",
        str(tmp_path / "merge-request.yml"),
    ]
    run = subprocess.run(checker, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    for command in (
        "make check",
        "make test",
        "tunegate gitlab children",
        "tunegate repro configs/finetune/",
        "tunegate loadtest",
    ):
        assert command in text, command
    assert not re.search(r"run: .*\$\{\{ github\.", text), "what a branch's name says must not become a command"
