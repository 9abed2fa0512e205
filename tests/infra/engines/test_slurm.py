"""The batch script, run by bash with stand-ins for srun and scontrol: Slurm itself is in benchmarks/cluster."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.training.launch import Launch
from infra.engines import slurm
from infra.engines.job import ENDED, HEARTBEAT, Job, State

pytestmark = pytest.mark.unit
NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40).filter(
    lambda name: name.strip(".") != "" and len(name.encode()) < 200
)
SCONTROL = '#!/bin/bash\n[ "$2" = hostnames ] && echo n7 || echo "NodeName=n7 NodeAddr=10.0.0.7 NodeHostName=x"\n'


def job_in(folder: Path, **launch: Any) -> Job:
    made = folder / "job"
    made.mkdir(parents=True, exist_ok=True)
    settings = Launch.model_validate({"engine": "slurm", "nodes": 2, "threads": 3, "restarts": 1} | launch)
    return Job("tunegate-x-1", made, folder / "checkpoints", settings, folder)


def run(job: Job, programs: Path, srun: str) -> int:
    """Exit code of the script, in which srun is this."""
    for name, text in {"srun": srun, "scontrol": SCONTROL, "sleep": "#!/bin/bash\nexec /bin/sleep 0.01\n"}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (job.folder / "job.sh").write_text(slurm.script(job))
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "SLURM_JOB_ID": "5", "SLURM_NODEID": "0"}
    environment |= {"SLURM_JOB_NODELIST": "n[7-8]", "PROGRAMS": str(programs)}
    return subprocess.run(["bash", str(job.folder / "job.sh")], env=environment, timeout=60).returncode


@settings(max_examples=20)
@given(name=NAMES)
def test_whatever_a_folder_is_called_each_value_reaches_the_shell_as_one_word(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    programs = tmp_path_factory.mktemp("programs")
    job = job_in(programs / name)
    assert run(job, programs, '#!/bin/bash\nprintf "%s\\0" "$@" "$TUNEGATE_RENDEZVOUS" > "$PROGRAMS/asked"\n') == 0
    *asked, rendezvous = (programs / "asked").read_bytes().decode().rstrip("\0").split("\0")
    assert asked[:-1] == ["--kill-on-bad-exit=1", "--export=ALL", "--input=none", "bash", "-c"]
    words = shlex.split(asked[-1])
    assert [one.rstrip(";") for one in words[4 : 4 + len(job.command)]] == job.command
    assert rendezvous == "10.0.0.7:20080" and (job.folder / ENDED).read_text() == "0"
    assert (job.folder / HEARTBEAT).exists()


FAILS = '#!/bin/bash\necho >> "$PROGRAMS/starts"\nfor one in 1 2; do echo >> job/began; done\n'


@pytest.mark.parametrize(
    ("srun", "code", "starts"),
    [
        (f"{FAILS}exit 3", 3, 2),  # once, and the one restart that is allowed
        (f"{FAILS}exit 1", 1, 2),
        (f"{FAILS}exit 137", 3, 2),
        (f"{FAILS}touch job/refused; exit 2", 2, 1),  # a wrong input is as wrong again
        # Each of the first three starts brings a checkpoint, and counts for nothing.
        (
            f"{FAILS}starts=$(cat $PROGRAMS/starts | wc -l); [ $starts -gt 3 ] && exit 3\n"
            "mkdir -p checkpoints/checkpoint-$starts; touch checkpoints/checkpoint-$starts/complete; exit 3",
            3,
            5,
        ),
        # A node that starts nothing is for Slurm to take for lost.
        (f'{FAILS}[ $(cat "$PROGRAMS/starts" | wc -l) -lt 5 ] && rm job/began && exit 1; exit 0', 0, 5),
    ],
)
def test_it_is_started_again_as_often_as_it_may_be(tmp_path: Path, srun: str, code: int, starts: int) -> None:
    job = job_in(tmp_path)
    assert run(job, tmp_path, srun) == code
    assert len((tmp_path / "starts").read_text().splitlines()) == starts
    assert (job.folder / ENDED).read_text() == str(code)


def test_options_go_past_the_shell_one_word_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "swordfish")
    monkeypatch.setenv("SOMETHING_ELSE", "x")
    given = {"partition": "a; b", "time": "1-00:00:00", "gpus_per_node": 8, "options": ["--qos=high"]}
    options = slurm.options(job_in(tmp_path / "100%", slurm=given, processes=2))
    assert "--partition=a; b" in options and "--time=1-00:00:00" in options and options[-1] == "--qos=high"
    assert {"--requeue", "--nodes=2", "--cpus-per-task=6", "--gpus-per-node=8", "--dependency=singleton"} <= set(
        options
    )
    assert "--open-mode=append" in options and f"--output={tmp_path}/100%%/job/log" in options
    (exported,) = (one for one in options if one.startswith("--export="))
    assert "AWS_SECRET_ACCESS_KEY" in exported and "swordfish" not in exported and "SOMETHING_ELSE" not in exported


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("PENDING|Resources", "waiting"),
        ("RUNNING|None", "running"),
        ("COMPLETING|None", "running"),
        ("COMPLETED|None", "succeeded"),
        ("CANCELLED by 0", "failed"),
        ("NODE_FAIL|None", "failed"),
        ("OUT_OF_MEMORY|", "failed"),
        ("A_STATE_OF_TOMORROW|", "unknown"),
        ("", "unknown"),
    ],
)
def test_only_an_end_that_slurm_names_is_one(line: str, kind: str) -> None:
    assert slurm.parse_state(line).kind == kind


@pytest.mark.parametrize(
    ("squeue", "kind"),
    [
        ("echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1", "unknown"),
        ("echo 'RUNNING|None'", "running"),
        ("echo 'FAILED|NonZeroExitCode'; echo 'PENDING|Dependency'", "waiting"),
        ("true", "gone"),
    ],
)
def test_a_controller_that_does_not_answer_says_nothing_of_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, squeue: str, kind: str
) -> None:
    for name, text in {"squeue": squeue, "sacct": "exit 1"}.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    job = job_in(tmp_path)
    assert slurm.watch(job).kind == kind
    if kind == "gone":
        (job.folder / HEARTBEAT).touch()
        assert slurm.watch(job).kind == "running", "forgotten by Slurm, but its heart beats"
        (job.folder / ENDED).write_text("3")
        assert slurm.watch(job) == State("failed", "ended with 3", 3)
