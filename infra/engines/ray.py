"""Ray: one detached actor of the job's name holds a placement group and runs our own launcher on each of its nodes,
all again when one is lost (infra/engines/ray_gang.py). Not Ray Train: what starts, checkpoints and resumes is ours.

Every call is a process of its own: a driver dies with the raylet that it is attached to, and the command must not.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from configs.errors import ExternalError
from infra.engines.job import ENDED, HEARTBEAT, LOG, Job, State, ended, missed
from infra.engines.ray_gang import GONE, rendezvous
from infra.files.atomic import write_json, write_text

__all__ = ["cancel", "logs", "rendezvous", "submit", "watch"]
ASK_SECONDS = 120
CODE = Path(__file__).parents[2]


def specification(job: Job) -> dict[str, Any]:
    """What the actor is told; plain values, for it runs where nothing of ours is imported."""
    asked, launch = job.launch.ray, job.launch
    cpus = asked.cpus_per_node or job.cpus or launch.processes
    return {
        "token": job.token,
        "nodes": launch.nodes,
        "strategy": "STRICT_SPREAD" if launch.nodes > 1 else "PACK",
        "resources": {"CPU": cpus} | ({"GPU": asked.gpus_per_node} if asked.gpus_per_node else {}),
        "command": job.command,
        "root": str(job.root),
        "environment": {"PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        "once_more": [
            sys.executable,
            "-m",
            "infra.engines.restarts",
            str(job.folder),
            str(job.checkpoints),
            str(launch.restarts),
        ],
        "code": str(CODE),
        "log": str(job.folder / LOG),
        "heartbeat": str(job.folder / HEARTBEAT),
        "ended": str(job.folder / ENDED),
    }


def submit(job: Job) -> None:
    """Of one name there is one actor: whoever submits twice finds the first. Raises ExternalError."""
    write_json(job.folder / "ray.json", specification(job))
    code, said = call(job, "submit")
    if code:
        raise ExternalError(f"ray: {said}", hint="ray status   (launch.ray.address: HOST:PORT of the cluster's head)")


def watch(job: Job) -> State:
    """By what the job writes; Ray itself is asked when its heartbeat is missed, and believed when it answers."""
    if found := ended(job):
        return found
    if not missed(job):
        return State("running", (job.folder / HEARTBEAT).read_text(encoding="utf8") or "running")
    code, said = call(job, "look")
    if code == 0:
        return State("running", said)
    return ended(job) or (State("gone", "Ray knows no such job") if code == GONE else State("unknown", said))


def logs(job: Job) -> list[Path]:
    return [job.folder / f"{LOG}.{node}" for node in range(job.launch.nodes)]


def cancel(job: Job) -> None:
    """Its tasks and their processes end with the actor. Raises ExternalError."""
    code, said = call(job, "cancel")
    if code not in (0, GONE):
        raise ExternalError(f"ray: {said}", hint="ray status")
    write_text(job.folder / ENDED, "143")


def call(job: Job, verb: str) -> tuple[int, str]:
    """Exit code and last words of ray_gang.py as a process of its own; -1 where it does not answer."""
    address = job.launch.ray.address or "auto"
    source = Path(__file__).with_name("ray_gang.py").read_text(encoding="utf8")
    command = [sys.executable, "-P", "-c", source, verb, address, job.token]  # beside the file `ray` would be this one
    if verb == "submit":
        command.append(str(job.folder / "ray.json"))
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_SECONDS)
    except subprocess.TimeoutExpired:
        return -1, f"no answer from {address} within {ASK_SECONDS} s"
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return done.returncode, lines[-1] if lines else ""
