"""The GPU parts are run one by one, each within its limit; what a part has seen is kept however it ends."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import benchmarks.gpu.parts as runner
import benchmarks.gpu.rows as rows_module
from benchmarks.gpu.rows import MISSED, read_rows
from tests.paths import ROOT

pytestmark = pytest.mark.unit
WRITES = "from benchmarks.gpu.rows import write_row; write_row('p', 'seen', 7); "


@pytest.fixture(autouse=True)
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As on a lent machine; what stays there lies under the working directory."""
    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rows_module, "ROWS", tmp_path / "build/prove/gpu.jsonl")
    return tmp_path / "out"


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "gpu.jsonl").read_text(encoding="utf8").splitlines()]


def test_the_parts_stand_in_the_order_of_their_worth_and_none_may_take_more_than_four_minutes() -> None:
    assert list(runner.PARTS) == ["train", "serve", "switch", "sleep", "plan"]
    assert all(0 < part.seconds <= runner.MOST_SECONDS == 240 for part in runner.PARTS.values())
    assert all((ROOT / f"benchmarks/gpu/{part.module}.py").exists() for part in runner.PARTS.values())


def test_the_calls_of_the_page_fit_into_the_minutes_of_a_lease() -> None:
    text = (ROOT / "docs/gpu.md").read_text(encoding="utf8")
    limits = [int(found) for found in re.findall(r"`timeout_s` (\d+)", text)]
    assert len(limits) > 2
    assert sum(limits) <= 15 * 60 - 90  # a machine's start takes a minute or more
    parts, unpacking = [part.seconds for part in runner.PARTS.values()], 10
    assert limits[0] >= parts[0] + unpacking
    assert limits[-1] >= sum(parts[1:]) + unpacking


@pytest.mark.parametrize(
    ("ends", "how"),
    [
        ("", "its goals held"),
        (f"raise SystemExit({MISSED})", "a goal was missed"),
        ("1 / 0", "broke, exit code 1"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "broke, exit code -9"),
    ],
)
def test_a_part_keeps_the_rows_that_it_wrote_before_it_ended(ends: str, how: str, out: Path) -> None:
    assert runner.run_part("p", [sys.executable, "-c", WRITES + ends], 120) == how
    first, last = rows(out)
    assert (first["name"], first["value"], first["device"]) == ("seen", 7, "a CPU")
    assert (last["name"], last["value"], last["holds"]) == ("ended", how, how == "its goals held")
    assert read_rows("p")["seen"]["value"] == 7


def test_a_part_ends_at_its_limit_with_all_that_it_started(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As vLLM's servers, which lie in sessions of their own; one of these two does not heed SIGTERM."""
    monkeypatch.setattr(runner, "GRACE_SECONDS", 1)
    seen: list[str] = []
    monkeypatch.setattr(runner, "end_marked", lambda mark, end=runner.end_marked: (seen.append(mark), end(mark)))
    script = "(trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep 600; sleep 600') & setsid sleep 600 & wait"
    assert runner.run_part("p", ["sh", "-c", script], 2) == "stopped at its limit of 2 s"
    assert rows(out)[-1]["value"] == "stopped at its limit of 2 s"
    assert seen and runner.left_of(seen[0], set()) == []


def test_without_a_gpu_it_says_so_and_measures_nothing(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "benchmarks.gpu"], capture_output=True, text=True)
    assert done.returncode == 3
    assert "no GPU here" in done.stderr and "--tiny" in done.stderr
    assert not list(tmp_path.rglob("gpu.jsonl"))


def test_a_part_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    done = subprocess.run([sys.executable, "-m", "benchmarks.gpu", "trian"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "found trian, expected some of train, serve" in done.stderr


def test_a_server_that_wrote_a_title_over_its_environment_ends_with_the_rest_of_its_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`env -i` stands for what setproctitle does to /proc/PID/environ."""
    monkeypatch.setattr(runner, "GRACE_SECONDS", 1)
    script = "env -i sh -c 'trap \"\" TERM; sleep 601; sleep 601' & echo $! > pid; sleep 600"
    assert runner.run_part("p", ["sh", "-c", script], 2).startswith("stopped")
    pid = Path("pid").read_text().strip()
    assert not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes()
