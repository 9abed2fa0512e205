"""Worker processes: the outcomes come in the order of the trials, whoever dies is named, and nobody is left over."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from configs.errors import ExternalError, InputError
from configs.run.config import RunConfig
from infra.nvml import Device
from tests.paths import ROOT
from train.search.wave import Outcome, Trial, state_trial
from train.search.workers import local_workers, shares

pytestmark = pytest.mark.unit
CONFIG = {
    "name": "x",
    "task": "sequence-classification",
    "base": {"path": "b"},
    "data": {"source": "sentiment"},
    "train": {"max_steps": 4},
    "gate": "g",
}
# Speaks as `tunegate trial --parent` does; what it trains is what its folder's file `does` says.
WORKER = f"""
import json, os, subprocess, sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from train.search.wave import Outcome, write_outcome
for line in sys.stdin:
    folder = Path(line.strip())
    (folder / "pid").write_text(str(os.getpid()))
    print(json.dumps({{"step": 2, "loss": 0.5}}), flush=True)
    exec((folder / "does").read_text())
    course = {{2: os.environ["OMP_NUM_THREADS"] == "1" and 0.5}}
    write_outcome(folder, Outcome("COMPLETE", float(folder.name.split("-")[1]), None, course))
    print("{{}}", flush=True)
"""
COMMAND = [sys.executable, "-c", WORKER]


@pytest.fixture(autouse=True)
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def trials(folder: Path, *does: str) -> list[Trial]:
    made = []
    for number, what in enumerate(does):
        trial = Trial(number, folder / f"trial-{number}", RunConfig.model_validate(CONFIG), {})
        state_trial(trial, {}, folder / "data")
        (trial.folder / "does").write_text(what)
        made.append(trial)
    return made


def alive(folder: Path) -> list[int]:
    pids = [int(path.read_text()) for path in folder.glob("trial-*/*pid")]
    return [pid for pid in pids if Path(f"/proc/{pid}").exists() and "Z" not in state_of(pid)]


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "Z"


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_outcomes_come_in_the_order_of_the_trials_whoever_ends_first(tmp_path: Path) -> None:
    told: list[tuple[int, int, float | None]] = []
    first_waits = "while not Path('trial-1/outcome.json').exists(): time.sleep(0.01)"
    wave = trials(tmp_path, first_waits.replace("trial-1", str(tmp_path / "trial-1")), "")
    with local_workers(2, 2, tmp_path, lambda *said: told.append(said), COMMAND) as run_wave:
        for _ in range(2):
            assert run_wave(wave) == [Outcome("COMPLETE", float(number), None, {2: 0.5}) for number in (0, 1)]
    assert sorted(told) == [(number, 2, 0.5) for number in (0, 0, 1, 1)]
    assert alive(tmp_path) == []


@pytest.mark.parametrize(
    ("does", "kind", "said"),
    [
        ("os.kill(os.getpid(), 9)", ExternalError, "was ended by SIGKILL"),
        ("subprocess.Popen(['sleep', '600']); os.kill(os.getpid(), 9)", ExternalError, "was ended by SIGKILL"),
        ("sys.exit('the disk is full')", ExternalError, "the disk is full"),
        ("print('no such key', file=sys.stderr); sys.exit(2)", InputError, "no such key"),
    ],
)
def test_a_worker_that_dies_is_named_when_those_beside_it_have_ended(
    tmp_path: Path, does: str, kind: type[Exception], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    beside = f"while not Path({str(tmp_path / 'trial-0/pid')!r}).exists(): time.sleep(0.01)"
    wave = trials(tmp_path, does, f"{beside}\ntime.sleep(0.3)", does)
    with (
        pytest.raises(kind, match=f"(?s)trial 0: .*{said}.*trial 2: .*{said}"),
        local_workers(3, 3, tmp_path, lambda *_: None, COMMAND) as run_wave,
    ):
        run_wave(wave)
    assert (tmp_path / "trial-1/outcome.json").exists() and alive(tmp_path) == []
    assert "trial 0" in capsys.readouterr().err


def test_an_interrupted_sweep_leaves_no_process_not_even_one_of_a_worker(tmp_path: Path) -> None:
    """The workers do not heed SIGTERM, and have started others."""
    child = "child = subprocess.Popen(['sleep', '600']); (folder / 'child.pid').write_text(str(child.pid))"
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    wave = trials(tmp_path, f"{child}\n{stubborn}", f"{child}\n{stubborn}")

    def interrupt() -> None:
        until(lambda: len(list(tmp_path.glob("trial-*/child.pid"))) == 2)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a run under nohup heeds none
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt), local_workers(2, 2, tmp_path, lambda *_: None, COMMAND) as run_wave:
        run_wave(wave)
    thread.join()
    signal.signal(signal.SIGINT, before)
    assert len(list(tmp_path.glob("trial-*/*pid"))) == 4
    until(lambda: alive(tmp_path) == [])


def test_cores_are_shared_and_who_sets_the_threads_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.search.workers.visible_devices", list)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert shares(2) == [{"OMP_NUM_THREADS": "4"}] * 2
    assert shares(100) == [{"OMP_NUM_THREADS": "1"}] * 100
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert shares(2) == [{"OMP_NUM_THREADS": "3"}] * 2


def test_each_worker_has_a_gpu_of_its_own_and_more_than_there_are_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = [Device(f"GPU-{name}", "H100", 80, 80, {}) for name in "abc"]
    monkeypatch.setattr("train.search.workers.visible_devices", lambda: gpus)
    assert [share["CUDA_VISIBLE_DEVICES"] for share in shares(2)] == ["GPU-a", "GPU-b"]
    with pytest.raises(InputError, match="found 4, expected at most 3"):
        shares(4)
