"""One job of a config, whoever asks however often and is killed whenever."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from configs.errors import ExternalError, InputError, RefusedError
from configs.paths import RunPaths
from configs.run.config import RunConfig
from infra.engines.job import Job, State
from infra.files.atomic import read_json
from train.loop import engine as module
from train.loop.engine import cancel, failure, job_config, submitted, tell_new_lines

pytestmark = pytest.mark.unit


def run_config(steps: int = 4, **launch: Any) -> RunConfig:
    raw: dict[str, Any] = {
        "name": "x.y_z",
        "task": "sequence-classification",
        "base": {"path": "b"},
        "data": {"source": "sentiment"},
        "train": {"max_steps": steps},
        "gate": "g",
        "launch": {"engine": "slurm", "nodes": 2, "threads": 1} | launch,
    }
    return RunConfig.model_validate(raw)


class Engine:
    """Knows its jobs by name, as the real ones do; can be killed as it submits."""

    def __init__(self) -> None:
        self.jobs: dict[str, State] = {}
        self.submissions: list[str] = []
        self.killed: str | None = None

    def submit(self, job: Job) -> None:
        if self.killed == "before":
            raise KeyboardInterrupt
        self.submissions.append(job.token)
        self.jobs.setdefault(job.token, State("waiting"))
        if self.killed == "after":
            raise KeyboardInterrupt

    def watch(self, job: Job) -> State:
        return self.jobs.get(job.token, State("gone"))

    def logs(self, job: Job) -> list[Path]:
        return [job.folder / "log"]

    def cancel(self, job: Job) -> None:
        self.jobs[job.token] = State("failed", "cancelled")


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.chdir(tmp_path)
    made = Engine()
    monkeypatch.setattr(module, "engine_of", lambda name: made)
    return made


def ask(config: RunConfig) -> Job:
    return submitted(config, RunPaths.of(config.name))


@pytest.mark.parametrize("kind", ["waiting", "running", "unknown"])
def test_a_job_that_may_be_alive_is_followed_and_none_is_submitted_beside_it(engine: Engine, kind: Any) -> None:
    first = ask(run_config())
    engine.jobs[first.token] = State(kind)
    assert ask(run_config()).token == first.token and engine.submissions == [first.token]
    assert first.token.startswith("tunegate-x-y-z-"), "a label of DNS"


@pytest.mark.parametrize("killed", ["before", "after"])
def test_a_command_that_is_killed_as_it_submits_leaves_one_job(engine: Engine, killed: str) -> None:
    engine.killed = killed
    with pytest.raises(KeyboardInterrupt):
        ask(run_config())
    engine.killed = None
    ask(run_config())
    assert len(engine.jobs) == 1


def test_after_one_that_failed_there_is_a_new_one_and_its_log_is_kept(engine: Engine) -> None:
    first = ask(run_config())
    (first.folder / "log").write_text("why")
    (first.folder / "attempts.json").write_text("{}")
    engine.jobs[first.token] = State("failed")
    second = ask(run_config())
    assert second.token != first.token and (first.folder / "log.before").read_text() == "why"
    assert not (first.folder / "attempts.json").exists()


def test_beside_a_job_of_another_config_none_is_submitted(engine: Engine) -> None:
    first = ask(run_config())
    with pytest.raises(InputError, match=first.token):
        ask(run_config(steps=5))
    assert cancel(run_config(), RunPaths.of("x.y_z")) == first.token
    assert cancel(run_config(), RunPaths.of("x.y_z")) is None, "none runs"
    assert ask(run_config(steps=5)).token != first.token


def test_each_node_is_told_to_start_its_processes_itself_and_to_start_none_again(engine: Engine) -> None:
    job = ask(run_config(slurm={"partition": "p"}, checkpoints="s3://b/c", restarts=7))
    told = RunConfig.model_validate(read_json(job.config))
    assert told.launch.engine == "local" and told.launch.restarts == 0 and told.launch.slurm.partition is None
    assert (told.launch.nodes, told.launch.threads, told.launch.checkpoints) == (2, 1, "s3://b/c")
    assert job_config(run_config()) != job_config(run_config(steps=5))


def test_whole_lines_are_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, read = tmp_path / "log", dict[Path, int]()
    for more in ("one\ntw", "", "o\nthree\n"):
        with log.open("a") as stream:
            stream.write(more)
        tell_new_lines([log, tmp_path / "absent"], read)
    assert capsys.readouterr().err == "one\ntwo\nthree\n"


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (State("failed", "", 1), RefusedError),
        (State("failed", "", 2), InputError),
        (State("failed", "", 3), ExternalError),
        (State("gone"), ExternalError),
    ],
)
def test_an_exit_code_keeps_its_meaning(state: State, kind: type[Exception]) -> None:
    engine: Any = SimpleNamespace(logs=lambda job: [])
    job: Any = SimpleNamespace(token="t")
    assert type(failure(state, engine, job)) is kind


def test_a_job_that_succeeded_without_a_model_is_no_success(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "submit", lambda job: engine.jobs.update({job.token: State("succeeded", "ended", 0)}))
    with pytest.raises(ExternalError, match="ended"):
        module.train_on_engine(run_config(), RunPaths.of("x.y_z"), "k")
