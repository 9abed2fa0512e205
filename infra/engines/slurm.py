"""Slurm: one batch job, whose script starts our launcher on each node by srun and starts all of them again when one
is lost. A node that is lost makes Slurm put the job back into its queue (--requeue), where the script begins anew."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from configs.errors import ExternalError
from infra.engines.job import BEAT_SECONDS, ENDED, HEARTBEAT, LOG, Job, State, ended, missed
from infra.files.atomic import write_text

ASK_SECONDS, SUBMIT_SECONDS = 30, 120
# What goes from the submitting shell into the job: where programs and files lie, and the logins of stores.
EXPORTED = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "SLURM_CONF")
EXPORTED_BY_PREFIX = ("AWS_", "MLFLOW_", "HF_", "TUNEGATE_", "GLOO_", "NCCL_")
WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "CONFIGURING", "RESV_DEL_HOLD"}
RUNNING = {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING", "PREEMPTED"}
FAILED = {"FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE", "REVOKED"}
LAUNCHES_NOT_COUNTED = 60  # ten minutes: Slurm takes a node for lost after SlurmdTimeout, five by default
SCRIPT = """\
#!/bin/bash
# Written by tunegate for {token}. Exit codes: tunegate train's own.
set -u
cd {root} || exit 3
beat() {{ while touch {heartbeat}; do sleep {beat_seconds}; done; }}
beat & heart=$!
gang= limit= starts=0 incomplete=0
end() {{ kill "$heart"; printf '%s' "$1" > {ended}.partial && mv {ended}.partial {ended}; exit "$1"; }}
once_more() {{ {python} -m infra.engines.restarts {folder} {checkpoints} {restarts}; }}
stop() {{ [ -n "$gang" ] && kill -TERM "$gang" 2>/dev/null; }}
trap 'limit=1; stop' USR1  # the time limit is near
trap 'stop; kill "$heart"; exit 143' TERM
while true; do
{rendezvous}
    rm -f {began}
    srun --kill-on-bad-exit=1 --export=ALL --input=none bash -c {on_each_node} & gang=$!
    while true; do
        wait "$gang"; code=$?
        kill -0 "$gang" 2>/dev/null || break
    done
    [ "$code" = 0 ] && end 0
    [ -e {refused} ] && end 2  # a wrong input: the same again
    if [ -n "$limit" ]; then
        once_more && kill "$heart" && exec scontrol requeue "$SLURM_JOB_ID"
        end 3
    fi
    starts=$((starts + 1))
    # A node that does not answer starts nothing: whether it is lost is for Slurm to say, which then requeues the job.
    if [ "$(cat {began} 2>/dev/null | wc -l)" -lt {nodes} ] && [ "$incomplete" -lt {not_counted} ]; then
        incomplete=$((incomplete + 1)); sleep 10; continue
    fi
    once_more || end "$([ "$code" = 1 ] && echo 1 || echo 3)"
done
"""
EACH_NODE = (
    "echo >> {began}; TUNEGATE_NODE=$SLURM_NODEID {command}; code=$?; [ $code = 2 ] && touch {refused}; exit $code"
)


def rendezvous() -> str:
    """Shell: the address of the job's first node, and a port of this job and start."""
    return """\
    first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
    address=$(scontrol show node --oneliner "$first" | sed -n 's/.* NodeAddr=\\([^ ]*\\).*/\\1/p')
    export TUNEGATE_RENDEZVOUS="${address:-$first}:$((20000 + (SLURM_JOB_ID * 16 + starts) % 12000))\""""


def script(job: Job) -> str:
    """The batch script; every value is quoted for the shell."""
    places = {
        "root": job.root,
        "folder": job.folder,
        "checkpoints": job.checkpoints,
        "heartbeat": job.folder / HEARTBEAT,
        "ended": job.folder / ENDED,
        "began": job.folder / "began",
        "refused": job.folder / "refused",
        "python": sys.executable,
    }
    quoted = {name: shlex.quote(str(value)) for name, value in places.items()}
    on_each_node = EACH_NODE.format(command=shlex.join(job.command), began=quoted["began"], refused=quoted["refused"])
    return SCRIPT.format(
        **quoted,
        token=job.token,
        restarts=job.launch.restarts,
        nodes=job.launch.nodes,
        not_counted=LAUNCHES_NOT_COUNTED,
        beat_seconds=BEAT_SECONDS,
        rendezvous=rendezvous(),
        on_each_node=shlex.quote(on_each_node),
    )


def options(job: Job) -> list[str]:
    """Of sbatch; they go there past any shell. `singleton`: of one name one runs at a time, whoever submits twice."""
    asked, cpus = job.launch.slurm, job.launch.slurm.cpus_per_task or job.cpus
    names = [name for name in sorted(os.environ) if name in EXPORTED or name.startswith(EXPORTED_BY_PREFIX)]
    wanted = {
        "job-name": job.token,
        "nodes": job.launch.nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": cpus,
        "gpus-per-node": asked.gpus_per_node,
        "partition": asked.partition,
        "account": asked.account,
        "time": asked.time,
        "output": str(job.folder / LOG).replace("%", "%%"),
        "open-mode": "append",
        "signal": "B:USR1@60",
        "dependency": "singleton",
        "export": ",".join(names) or "NONE",
    }
    given = [f"--{name}={value}" for name, value in wanted.items() if value is not None]
    return [*given, "--requeue", "--parsable", *asked.options]


def submit(job: Job) -> None:
    """Raises ExternalError where Slurm does not take it."""
    path = job.folder / "job.sh"
    write_text(path, script(job))
    call("sbatch", *options(job), str(path), seconds=SUBMIT_SECONDS)


def watch(job: Job) -> State:
    """Dead is what Slurm says has ended; where it has forgotten the job, what the job wrote itself, or its missed
    heartbeat."""
    try:
        found = call("squeue", "--noheader", "--states=all", f"--name={job.token}", "--format=%T|%r").splitlines()
    except ExternalError as error:
        return State("unknown", error.message)
    states = [parse_state(line) for line in found] or accounted(job)
    alive = [state for state in states if state.kind in ("waiting", "running")]
    if alive:
        return alive[0]
    return ended(job) or (states[-1] if states else State("gone" if missed(job) else "running", "no longer in squeue"))


def parse_state(line: str) -> State:
    """One line of squeue or sacct: STATE, of which sacct says more (CANCELLED by 0), and a reason."""
    word, _, reason = line.strip().partition("|")
    name = word.split()[0].rstrip("+") if word.split() else ""
    words = f"{name.lower()}{f' ({reason})' if reason not in ('', 'None') else ''}"
    kinds = {"waiting": WAITING, "running": RUNNING, "failed": FAILED, "succeeded": {"COMPLETED"}}
    for kind, names in kinds.items():
        if name in names:
            return State(kind, words)  # type: ignore[arg-type]
    return State("unknown", words or "an empty state")


def accounted(job: Job) -> list[State]:
    """What the accounting still knows, where there is one."""
    try:
        found = call("sacct", "--noheader", "--allocations", "--parsable2", f"--name={job.token}", "--format=State")
    except ExternalError:
        return []
    return [parse_state(line) for line in found.splitlines()]


def logs(job: Job) -> list[Path]:
    return [job.folder / LOG]


def cancel(job: Job) -> None:
    call("scancel", f"--name={job.token}")


def call(*command: str, seconds: float = ASK_SECONDS) -> str:
    """stdout. Raises ExternalError, also where it does not answer in time. What submits does not outlive us: the next
    command could not see it yet."""
    from infra.processes import die_with

    parent = os.getpid()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, preexec_fn=lambda: die_with(parent)
        )
    except FileNotFoundError:
        raise ExternalError(
            f"{command[0]}: not found", hint="run it where Slurm's programs are (a login node)"
        ) from None
    except subprocess.TimeoutExpired:
        raise ExternalError(f"{command[0]} did not answer within {seconds:.0f} s", hint="sinfo") from None
    if done.returncode:
        raise ExternalError(f"{command[0]}: {' '.join(done.stderr.split())[:300]}", hint="sinfo")
    return done.stdout
