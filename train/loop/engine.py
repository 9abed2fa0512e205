"""A training on an engine: submitted once, followed to its end, found again by whoever asks the same."""

from __future__ import annotations

import fcntl
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from configs.errors import ExternalError, InputError, RefusedError
from configs.paths import RunPaths
from configs.run.config import RunConfig
from configs.training_record import TrainingRecord, read_training_record
from infra.engines import kubernetes, ray, slurm
from infra.engines.job import Job, State
from infra.files.atomic import read_json, write_json
from infra.terminal import telling

POLL_SECONDS = 2.0
ALIVE = ("waiting", "running", "unknown")


def engine_of(name: str) -> ModuleType:
    """Five functions: submit, watch, logs, cancel, rendezvous. Raises InputError of this machine's own, which has no
    jobs."""
    if name == "local":
        raise InputError("launch.engine: found local, expected one that has jobs", hint="tunegate train CONFIG")
    return {"slurm": slurm, "ray": ray, "kubernetes": kubernetes}[name]


def train_on_engine(config: RunConfig, paths: RunPaths, key: str) -> TrainingRecord:
    """Follows the job of this config, which is submitted where there is none. Raises what it failed of."""
    engine = engine_of(config.launch.engine)
    job = submitted(config, paths)
    print(f"job {job.token} on {config.launch.engine}; what it says: {engine.logs(job)[0]}", file=sys.stderr)
    try:
        state = follow(engine, job)
    except KeyboardInterrupt:
        print("the job goes on; the same command follows it again, with --cancel ends it", file=sys.stderr)
        raise
    record = read_training_record(paths)
    if record and record["key"] == key:
        return record
    raise failure(state, engine, job)


def submitted(config: RunConfig, paths: RunPaths) -> Job:
    """The training's job that runs, or a new one. Raises InputError where one of another config runs."""
    return submit_once(config, paths, job_config(config))


def submit_once(config: RunConfig, paths: RunPaths, asked: dict[str, Any], trial: Path | None = None) -> Job:
    """The job of `paths` that runs, or a new one: one command at a time decides it. Its name is on disk before the
    engine hears it, so a command killed in between finds what it began. Raises InputError where it was `asked`
    otherwise."""
    engine, folder = engine_of(config.launch.engine), folder_of(paths)
    with lock(folder):
        found = read_job(config, paths, trial)
        state = engine.watch(found) if found else State("gone")
        if found and state.kind in ALIVE:
            if read_json(found.config) != asked:
                raise InputError(
                    f"{config.name}: job {found.token} of another config is {state.words or state.kind}",
                    hint=f"tunegate train CONFIG --cancel   (or another name than {config.name})",
                )
            return found
        # What was submitted and is not to be seen yet has the same name: the engine runs one of each.
        token = found.token if found and state.kind == "gone" else new_token(config.name)
        clear(folder)
        write_json(folder / "config.json", asked)
        write_json(folder / "job.json", {"token": token, "launch": config.launch.model_dump(mode="json")})
        job = job_of(config, paths, token, trial)
        engine.submit(job)
        return job


def new_token(name: str) -> str:
    """A label of DNS, as every engine takes it, with room for a number after it."""
    return f"tunegate-{re.sub('[^a-z0-9]+', '-', name)[:40].strip('-')}-{secrets.token_hex(4)}"


def clear(folder: Path) -> None:
    """What an earlier job left; its log stays, as `log.before`."""
    for path in folder.iterdir():
        if path.name == "log":
            path.replace(folder / "log.before")
        elif path.name not in ("log.before", "lock"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def job_config(config: RunConfig) -> dict[str, Any]:
    """What each node is told: to start its processes itself. It is the engine's script that starts again."""
    launch = config.launch
    here = {"processes", "nodes", "strategy", "threads", "checkpoints"}
    told: dict[str, Any] = config.model_dump(mode="json", exclude={"sweep", "launch"})
    return told | {"launch": launch.model_dump(mode="json", include=here) | {"restarts": 0}}


def folder_of(paths: RunPaths) -> Path:
    return paths.root.absolute() / "launch" / "job"


def job_of(config: RunConfig, paths: RunPaths, token: str, trial: Path | None = None) -> Job:
    return Job(token, folder_of(paths), paths.checkpoints.absolute(), config.launch, Path.cwd(), trial)


def read_job(config: RunConfig, paths: RunPaths, trial: Path | None = None) -> Job | None:
    """What was written down before it was submitted to this engine."""
    found = read_json(folder_of(paths) / "job.json")
    if not found or found["launch"]["engine"] != config.launch.engine:
        return None
    return job_of(config, paths, found["token"], trial)


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def follow(engine: ModuleType, job: Job) -> State:
    """Its last state; what it says goes to stderr."""
    state, read = State("unknown"), dict[Path, int]()
    with telling(lambda: f"{job.token}: {state.words or state.kind}"):
        while True:
            state = cast(State, engine.watch(job))
            tell_new_lines(engine.logs(job), read)
            if state.kind not in ALIVE:
                return state
            time.sleep(POLL_SECONDS)


def tell_new_lines(logs: list[Path], read: dict[Path, int]) -> None:
    """`read`: bytes of each that were told before."""
    for path in logs:
        if not path.exists():
            continue
        with path.open("rb") as stream:
            stream.seek(read.get(path, 0))
            whole, newline, _ = stream.read().rpartition(b"\n")
        if newline:
            read[path] = read.get(path, 0) + len(whole) + 1
            print(whole.decode("utf8", "replace"), file=sys.stderr)


def failure(state: State, engine: ModuleType, job: Job) -> Exception:
    kind = {1: RefusedError, 2: InputError}.get(state.code or 3, ExternalError)
    return kind(
        f"job {job.token}: {state.words or state.kind}; what it said: {', '.join(map(str, engine.logs(job)))}",
        hint="the same command submits it again, and it goes on from the last checkpoint",
    )


def cancel(config: RunConfig, paths: RunPaths) -> str | None:
    """Ends the job that runs; its name. The next command goes on from the last checkpoint."""
    engine = engine_of(config.launch.engine)
    with lock(folder_of(paths)):
        job = read_job(config, paths)
        if job is None or engine.watch(job).kind not in ALIVE:
            return None
        engine.cancel(job)
        return job.token
