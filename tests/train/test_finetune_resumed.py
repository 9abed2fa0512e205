"""Killed with -9 at any step, a training ends with the very bytes that it would have ended with."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from configs.paths import RunPaths
from configs.run.config import RunConfig
from tests.paths import ROOT
from train.finetune import finetune
from train.loop.checkpoints import whole_checkpoints
from train.model.base import make_base
from train.prepare import prepare

pytestmark = pytest.mark.integration
STEPS = 12
DROPOUT: dict[str, Any] = {"max_steps": STEPS, "eval_every_steps": 3, "lora": {"rank": 4, "alpha": 8, "dropout": 0.1}}
QUIET = SimpleNamespace(run_id="r", log_metrics=lambda figures, step: None)
TOLD = """
import sys
from types import SimpleNamespace
from configs.paths import RunPaths
from configs.run.config import RunConfig
from train.finetune import finetune
config = RunConfig.model_validate_json(sys.argv[1])
def tell(figures, step):
    print(step, "loss" in figures, flush=True)
finetune(config, RunPaths.of(config.name), SimpleNamespace(run_id="r", log_metrics=tell))
"""


def prepared(config: RunConfig) -> RunPaths:
    paths = RunPaths.of(config.name)
    prepare(config, paths, make_base(config))
    return paths


def kill_at(config: RunConfig, step: int) -> None:
    """kill -9 as soon as the loss of `step` is told: in the middle of what comes next, a validation, a checkpoint or
    another step."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", TOLD, config.model_dump_json()], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if line == f"{step} True\n":
                process.send_signal(signal.SIGKILL)
                break
        process.stdout.read()
    assert process.returncode == -signal.SIGKILL


def sha256(adapter: Path) -> str:
    return hashlib.sha256((adapter / "adapter_model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("family", ["classifier", "chat"])
def test_killed_at_random_steps_and_resumed_it_ends_with_the_same_bytes(
    family: str, request: pytest.FixtureRequest
) -> None:
    make: Callable[..., RunConfig] = request.getfixturevalue(family)
    straight, killed = make(name="straight", train=DROPOUT), make(name="killed", train=DROPOUT)
    whole = finetune(straight, prepared(straight), QUIET)
    paths = prepared(killed)
    steps = sorted(random.Random(family).sample(range(2, STEPS), 2))
    for step in steps:
        kill_at(killed, step)
        assert not paths.trained.exists(), "nothing that looks finished"
    resumed = finetune(killed, paths, QUIET)
    assert resumed["resumed_from_step"], f"killed at {steps}, it goes on and does not start anew"
    assert [line["loss"] for line in resumed["losses"]] == [line["loss"] for line in whole["losses"]], (
        "bit for bit, dropout included"
    )
    assert resumed["validation"] == whole["validation"] and resumed["best_step"] == whole["best_step"]
    assert sha256(paths.trained) == sha256(RunPaths.of("straight").trained)
    assert not paths.checkpoints.exists() and not list(paths.root.glob(".*")), "nothing is left behind"


class Killed(BaseException):
    """Ends a training where it stands, as a kill does, without the price of a process."""


def stop_after(step: int) -> Any:
    def log(figures: dict[str, float], at: int) -> None:
        if at == step and "loss" in figures:
            raise Killed

    return SimpleNamespace(run_id="r", log_metrics=log)


@pytest.mark.parametrize(
    "section",
    [
        {"gradient_accumulation_steps": 2, "batch_size": 2},
        {"packing": "sequence"},
        {"packing": "none"},
        {"schedule": "cosine"},
    ],
)
def test_accumulation_packing_and_schedule_resume_exactly(
    chat: Callable[..., RunConfig], section: dict[str, Any]
) -> None:
    settings = DROPOUT | {"max_steps": 6, "eval_every_steps": 2} | section
    straight, killed = chat(name="straight", train=settings), chat(name="killed", train=settings)
    finetune(straight, prepared(straight), QUIET)
    with pytest.raises(Killed):
        finetune(killed, prepared(killed), stop_after(5))
    assert finetune(killed, RunPaths.of("killed"), QUIET)["resumed_from_step"] == 4
    assert sha256(RunPaths.of("killed").trained) == sha256(RunPaths.of("straight").trained)


def test_a_kill_between_the_last_checkpoint_and_the_adapter_trains_nothing_again(
    chat: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = chat(train=DROPOUT | {"max_steps": 4, "eval_every_steps": 2})
    paths = prepared(config)
    with monkeypatch.context() as patch:
        patch.setattr("train.loop.trainer.save_trained", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            finetune(config, paths, QUIET)
    assert whole_checkpoints(paths.checkpoints)[-1].name == "checkpoint-4"
    told: list[int] = []
    record = finetune(
        config,
        paths,
        SimpleNamespace(run_id="r", log_metrics=lambda figures, step: told.extend([step] if "loss" in figures else [])),
    )
    assert (
        told == []
        and record["steps"] == 4
        and record["best_validation_loss"] == min(line["eval_loss"] for line in record["validation"])
    )


def test_early_stopping_ends_at_the_same_step_also_when_killed_right_there(
    chat: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"max_steps": 30, "eval_every_steps": 2, "early_stopping_patience": 2, "learning_rate": 1e-30}
    straight, killed = chat(name="straight", train=settings), chat(name="killed", train=settings)
    record = finetune(straight, prepared(straight), QUIET)
    assert (record["best_step"], record["steps"]) == (2, 6), (
        "a rate that moves nothing: the first one, and two without a new best"
    )
    with monkeypatch.context() as patch:
        patch.setattr("train.loop.trainer.save_trained", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            finetune(killed, prepared(killed), QUIET)
    assert finetune(killed, RunPaths.of("killed"), QUIET)["steps"] == record["steps"]
    assert sha256(RunPaths.of("killed").trained) == sha256(RunPaths.of("straight").trained)
