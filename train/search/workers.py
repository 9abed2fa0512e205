"""Worker processes of a sweep on this machine: each in a process group of its own, with its share of cores and GPUs;
none outlives the sweep."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from configs.errors import ExternalError, InputError, TunegateError
from infra.nvml import visible_devices
from train.search.wave import Outcome, RunWave, Trial, read_outcome

FRONT_DOOR = Path(__file__).parents[2] / "tunegate.py"
GRACE_SECONDS = 5.0  # between SIGTERM and SIGKILL
Tell = Callable[[int, int, float | None], None]  # number of the trial, step, validation loss where it was measured


class Worker(NamedTuple):
    process: subprocess.Popen[str]
    log: Path


@contextmanager
def local_workers(
    count: int, parallel: int, folder: Path, tell: Tell, command: Sequence[str] | None = None
) -> Iterator[RunWave]:
    """`count` workers, each with a share of one in `parallel`. Raises InputError where there are GPUs, but fewer."""
    with ExitStack() as started, ThreadPoolExecutor(count) as threads:
        workers = [
            start_worker(command or worker_command(), share, folder / f"worker-{number}.log", started)
            for number, share in enumerate(shares(parallel)[:count])
        ]

        def run_wave(trials: Sequence[Trial]) -> list[Outcome]:
            pairs = zip(workers, trials, strict=False)
            futures = [threads.submit(follow, worker, trial, tell) for worker, trial in pairs]
            for future in as_completed(futures):  # those beside one that breaks come to their end: their work counts
                if error := future.exception():
                    print(f"{error}\nthe sweep ends when the trials beside it have ended", file=sys.stderr)
            raise_all([error for future in futures if (error := future.exception())])
            return [future.result() for future in futures]

        try:
            yield run_wave
        finally:
            end(workers)  # its threads read to their end, and only then the pool may close


def worker_command() -> list[str]:
    return [sys.executable, str(FRONT_DOOR), "trial", "--parent", str(os.getpid())]


def shares(parallel: int) -> list[dict[str, str]]:
    """The environment of each worker. A training takes one GPU; who sets OMP_NUM_THREADS sets it for each process."""
    threads = str(max(1, len(os.sched_getaffinity(0)) // parallel))
    gpus = visible_devices()
    if gpus and len(gpus) < parallel:
        raise InputError(
            f"sweep.parallel: found {parallel}, expected at most {len(gpus)}, one trial for each GPU",
            hint=f"--set sweep.parallel={len(gpus)}",
        )
    cores = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads)}
    return [cores | ({"CUDA_VISIBLE_DEVICES": gpus[number].uuid} if gpus else {}) for number in range(parallel)]


def start_worker(command: Sequence[str], share: dict[str, str], log: Path, started: ExitStack) -> Worker:
    with log.open("w") as errors:
        process: subprocess.Popen[str] = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | share,
            process_group=0,  # Ctrl-C reaches the sweep alone, which ends them
        )
    worker = Worker(started.enter_context(process), log)
    threading.Thread(target=bury, args=(worker,), daemon=True).start()
    return worker


def bury(worker: Worker) -> None:
    """What a dead worker has started dies with it: it would keep its output open, and the sweep waiting."""
    worker.process.wait()
    signal_group(worker, signal.SIGKILL)


def follow(worker: Worker, trial: Trial, tell: Tell) -> Outcome:
    """Gives it the trial and reads what it says until that has ended. Raises what the worker died of."""
    assert worker.process.stdin and worker.process.stdout
    with suppress(BrokenPipeError):
        print(trial.folder, file=worker.process.stdin, flush=True)
    for line in worker.process.stdout:
        said = json.loads(line)
        if not said:
            break
        tell(trial.number, said["step"], said["loss"])
    outcome = read_outcome(trial.folder)
    if outcome is None:
        raise failure(worker, trial)
    return outcome


def failure(worker: Worker, trial: Trial) -> TunegateError:
    code = worker.process.wait()
    if code < 0:
        name = signal.Signals(-code).name
        return ExternalError(
            f"trial {trial.number}: its worker (process {worker.process.pid}) was ended by {name}",
            hint="the same command goes on from the last checkpoint",
        )
    last = " ".join(worker.log.read_text(encoding="utf8", errors="replace").split()[-60:])
    kind = InputError if code == InputError.exit_code else ExternalError
    return kind(f"trial {trial.number}: its worker ended with exit code {code}: …{last}", hint=f"less {worker.log}")


def raise_all(errors: list[BaseException]) -> None:
    """All at once; as the first one is."""
    if len(errors) > 1 and isinstance(errors[0], TunegateError):
        raise type(errors[0])("\n".join(str(error) for error in errors))
    if errors:
        raise errors[0]


def end(workers: Sequence[Worker]) -> None:
    """SIGTERM to each one's group, SIGKILL to what is left of it."""
    for worker in workers:
        signal_group(worker, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    for worker in workers:
        with suppress(subprocess.TimeoutExpired):
            worker.process.wait(max(0.0, deadline - time.monotonic()))
    for worker in workers:
        signal_group(worker, signal.SIGKILL)
        worker.process.wait()


def signal_group(worker: Worker, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(worker.process.pid, number)
