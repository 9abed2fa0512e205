"""Two processes, killed at random, their checkpoints lost or torn: the model is the one of an undisturbed training."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from configs.paths import RunPaths
from configs.run.config import RunConfig
from configs.training_record import TrainingRecord
from tests.paths import ROOT
from tests.support.stores import ACCESS_KEY, SECRET_KEY, s3
from train.loop.checkpoints import whole_checkpoints
from train.model.base import make_base
from train.prepare import prepare

pytestmark = pytest.mark.integration
STEPS, INTERVAL = 40, 4


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an S3 server that has a bucket `kept`."""
    with s3(tmp_path_factory.mktemp("s3"), "kept") as (_, address):
        yield address


@pytest.fixture
def login(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


def command(config: RunConfig) -> list[str]:
    """As a user gives it, over rows that are prepared."""
    Path("gate.yaml").write_text("rules: [{rule: parity}]\n")
    prepare(config, RunPaths.of(config.name), make_base(config))
    file = Path(f"{config.name}.json")
    file.write_text(config.model_dump_json(exclude={"sweep"}))
    return [sys.executable, str(ROOT / "tunegate.py"), "train", str(file), "--json"]


def train(config: RunConfig) -> TrainingRecord:
    done = subprocess.run(command(config), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record: TrainingRecord = json.loads(done.stdout)
    return record


def sha256(config: RunConfig) -> str:
    weights = RunPaths.of(config.name).trained / "adapter_model.safetensors"
    return hashlib.sha256(weights.read_bytes()).hexdigest()


def wait_for_step(paths: RunPaths, step: int, process: subprocess.Popen[str]) -> None:
    while not (whole := whole_checkpoints(paths.checkpoints)) or int(whole[-1].name.split("-")[1]) < step:
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.02)


@pytest.fixture
def make(classifier: Callable[..., RunConfig]) -> Callable[..., RunConfig]:
    """A run of two processes with dropout; `launch` on top."""

    def configure(name: str, dropout: float = 0.1, **launch: Any) -> RunConfig:
        train = {"max_steps": STEPS, "eval_every_steps": INTERVAL, "lora": {"rank": 4, "alpha": 8, "dropout": dropout}}
        divergence = {"divergence": {"factor": 1000}}
        return classifier(name=name, train=train | divergence, launch={"processes": 2, "threads": 1} | launch)

    return configure


def test_ranks_that_are_killed_are_started_again_and_the_bytes_are_the_same(make: Callable[..., RunConfig]) -> None:
    straight, killed = make("straight"), make("killed", restarts=2)
    assert "resumed" not in train(straight)
    paths, chance = RunPaths.of("killed"), random.Random(5)
    with subprocess.Popen(command(killed), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for step in (INTERVAL, 4 * INTERVAL, 7 * INTERVAL):  # more often than `restarts`, but each with progress
            wait_for_step(paths, step, process)
            ranks = [
                child
                for child in psutil.Process(process.pid).children(recursive=True)
                if child.status() != psutil.STATUS_ZOMBIE
            ]
            chance.choice(ranks).send_signal(signal.SIGKILL)
        said, errors = process.communicate(timeout=500)
    assert process.returncode == 0, errors
    record: TrainingRecord = json.loads(said)
    assert len(record["resumed"]) == 3 == errors.count("start again from the last checkpoint")
    assert {one["world_size"] for one in record["resumed"]} == {2} and record["steps"] == STEPS
    assert sha256(killed) == sha256(straight)


def test_what_never_gets_further_is_given_up(make: Callable[..., RunConfig]) -> None:
    config = make("hopeless", restarts=1)
    asked, data = command(config), RunPaths.of("hopeless").data
    (data / "train.parquet").write_bytes(b"no rows")
    done = subprocess.run(asked, capture_output=True, text=True, timeout=500)
    assert done.returncode == 3 and done.stderr.count("start again from the last checkpoint") == 1, done.stderr


@pytest.mark.usefixtures("login")
def test_what_is_lost_here_comes_back_from_the_store_and_what_is_torn_there_does_not(
    make: Callable[..., RunConfig],
) -> None:
    straight, moved = make("straight"), make("moved", checkpoints="s3://kept/checkpoints")
    train(straight)
    paths = RunPaths.of("moved")
    from infra.checkpoints.store import CheckpointStore

    with subprocess.Popen(command(moved), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True) as process:
        wait_for_step(paths, 3 * INTERVAL, process)
        process.send_signal(signal.SIGKILL)
    key = json.loads((paths.checkpoints / "run.json").read_text())["key"]
    shutil.rmtree(paths.checkpoints)
    store = CheckpointStore.open("s3://kept/checkpoints", "moved", key)
    newest = store.manifests()[0]
    store.files.pipe_file(
        f"{store.root}/checkpoint-{newest['step'] + INTERVAL}/torn/adapter_model.safetensors", b"half"
    )
    record = train(moved)
    assert record["resumed"] == [{"step": newest["step"], "world_size": 2}]
    assert sha256(moved) == sha256(straight) and store.listed() == [], "a finished training leaves nothing there"


def test_in_another_number_of_processes_it_learns_from_the_same_rows(make: Callable[..., RunConfig]) -> None:
    shape = Path("tiny-bert/config.json")  # two processes draw other masks than one; all else is the same
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    shape.write_text(json.dumps(json.loads(shape.read_text()) | still))
    straight = train(make("straight", dropout=0.0))
    config = make("changed", dropout=0.0)
    paths = RunPaths.of("changed")
    with subprocess.Popen(command(config), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True) as process:
        wait_for_step(paths, 3 * INTERVAL, process)
        process.send_signal(signal.SIGKILL)
    alone = train(make("changed", dropout=0.0, processes=1))
    assert [one["world_size"] for one in alone["resumed"]] == [1] and alone["world_size"] == 2
    assert [line["loss"] for line in alone["losses"]] == pytest.approx(
        [line["loss"] for line in straight["losses"]], rel=1e-3, abs=1e-5
    )
