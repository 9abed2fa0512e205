"""Slurm on this machine: a controller and three nodes, each in a PID namespace of its own, so that a node dies whole.

Debian: apt-get install slurmd slurmctld slurm-client munge. As root.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

PACKAGES = "slurmd slurmctld slurm-client munge"
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "unshare")
CONFIG = """\
ClusterName=tunegate
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmctldPort={ports[0]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,batch_sched_delay=0,bf_interval=2
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
ReturnToService=2
SlurmdTimeout=10
KillWait=2
MinJobAge=300
InactiveLimit=0
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 State=UNKNOWN
NodeName=n3 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[3]} CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@dataclass
class Cluster:
    """`nodes`: the process that holds each node's namespace."""

    folder: Path
    nodes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def boot(self, name: str) -> None:
        log = (self.folder / f"{name}.log").open("ab")
        self.nodes[name] = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "slurmd", "-D", "-N", name],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def kill(self, name: str) -> None:
        """At once, with every process on it: the kernel ends a namespace with its first process."""
        self.nodes[name].send_signal(signal.SIGKILL)
        self.nodes[name].wait()


def nodes_of(token: str) -> list[str]:
    """On which the job runs now."""
    listed = ask("squeue", "--noheader", f"--name={token}", "--states=running", "--format=%N").strip()
    return ask("scontrol", "show", "hostnames", listed).split() if listed else []


def ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout


@contextmanager
def slurm(folder: Path) -> Iterator[Cluster]:
    """Up, with SLURM_CONF in our environment. Raises RuntimeError where it is not installed."""
    if absent := [name for name in PROGRAMS if shutil.which(name) is None]:
        if os.geteuid() or shutil.which("apt-get") is None:
            raise RuntimeError(f"{', '.join(absent)}: not found; apt-get install {PACKAGES}, and run this as root")
        subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES.split()], check=True)
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "state").mkdir(parents=True)
    config = CONFIG.format(host=socket.gethostname().split(".")[0], folder=folder, ports=free_ports(4))
    (folder / "slurm.conf").write_text(config)
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    started = [start_munge(folder)]
    cluster = Cluster(folder)
    try:
        log = (folder / "controller.out").open("ab")
        started.append(subprocess.Popen(["slurmctld", "-D", "-c"], stdout=log, stderr=log, start_new_session=True))
        for name in ("n1", "n2", "n3"):
            cluster.boot(name)
        wait_for_idle(3)
        yield cluster
    finally:
        for process in [*cluster.nodes.values(), *reversed(started)]:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def start_munge(folder: Path) -> subprocess.Popen[bytes]:
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o600)
    places = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munge.pid", "log-file": "munge.log"}
    options = [f"--{name}={folder / place}" for name, place in (places | {"seed-file": "munge.seed"}).items()]
    return subprocess.Popen(["munged", "--foreground", "--force", *options], start_new_session=True)


def wait_for_idle(count: int, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while True:
        states = ask("sinfo", "--noheader", "--Node", "--format=%T").split()
        if sum(state in ("idle", "mixed", "allocated") for state in states) >= count:
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"Slurm has not {count} nodes: {states}")
        time.sleep(0.5)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
