"""Two processes train what one does, and none of them outlives the command that started them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from configs.errors import ExternalError, InputError, TunegateError
from configs.paths import RunPaths
from configs.run.config import RunConfig
from tests.paths import ROOT
from train.finetune import finetune
from train.loop.checkpoints import COMPLETE
from train.loop.processes import (
    LAUNCHER,
    RENDEZVOUS,
    check_hardware,
    failure,
    is_main,
    is_worker,
    launch_arguments,
    rendezvous,
    use_one_device,
)
from train.model.base import make_base
from train.prepare import prepare

unit, integration = pytest.mark.unit, pytest.mark.integration


def run_config(**launch: Any) -> RunConfig:
    raw = {
        "name": "x",
        "task": "sequence-classification",
        "base": {"path": "b"},
        "data": {"source": "sentiment"},
        "train": {"max_steps": 4},
        "gate": "g",
    }
    return RunConfig.model_validate(raw | {"launch": launch})


@unit
def test_a_lone_process_is_the_main_one_and_told_nothing() -> None:
    assert is_main() and not is_worker() and launch_arguments(run_config(processes=2)) == {}


@unit
@pytest.mark.parametrize(("rank", "main"), [("0", True), ("1", False)])
def test_rank_0_shows_tracks_and_saves(monkeypatch: pytest.MonkeyPatch, rank: str, main: bool) -> None:
    monkeypatch.setenv(LAUNCHER, "1")
    monkeypatch.setenv("RANK", rank)
    assert is_worker() and is_main() == main
    assert launch_arguments(run_config(processes=2))["accelerator_config"] == {"split_batches": True}


@unit
def test_nodes_meet_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RENDEZVOUS, raising=False)
    assert rendezvous(1) == "localhost:0"
    with pytest.raises(InputError, match=RENDEZVOUS):
        rendezvous(2)
    monkeypatch.setenv(RENDEZVOUS, "node-1:29500")
    assert rendezvous(2) == "node-1:29500"


@unit
@pytest.mark.parametrize(("gpus", "launch"), [(0, {"processes": 2}), (2, {"processes": 2}), (4, {"processes": 2})])
def test_hardware_that_is_there_is_used(monkeypatch: pytest.MonkeyPatch, gpus: int, launch: dict[str, Any]) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    check_hardware(run_config(**launch))


@unit
def test_gpus_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(InputError, match="at most 1"):
        check_hardware(run_config(processes=2))


@unit
def test_a_process_that_sees_four_gpus_trains_on_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As transformers counts them for its arguments: it would wrap the model in DataParallel."""
    import torch
    from transformers import Trainer, TrainingArguments

    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, per_device_train_batch_size=3)
    arguments._n_gpu = 4
    trainer: Any = Trainer(model=torch.nn.Linear(2, 2), args=arguments)
    assert trainer._train_batch_size == 12
    use_one_device(trainer)
    assert (trainer.args.n_gpu, trainer._train_batch_size) == (1, 3)
    assert not isinstance(trainer._wrap_model(trainer.model), torch.nn.DataParallel)


@unit
@pytest.mark.parametrize(
    ("code", "kind"),
    [(1, ExternalError), (2, InputError), (3, ExternalError), (137, ExternalError), (-9, ExternalError)],
)
def test_a_ranks_exit_code_keeps_its_meaning(code: int, kind: type[TunegateError]) -> None:
    assert type(failure(1, SimpleNamespace(exitcode=code, pid=7), Path("build/x/launch"))) is kind


def two(config: RunConfig) -> RunConfig:
    return config.model_copy(
        update={"name": f"{config.name}-two", "launch": config.launch.model_copy(update={"processes": 2})}
    )


def prepared(config: RunConfig) -> RunPaths:
    paths = RunPaths.of(config.name)
    Path("gate.yaml").write_text("rules: [{rule: parity}]\n")
    prepare(config, paths, make_base(config))
    return paths


def front_door(config: RunConfig) -> list[str]:
    """The command that trains `config`, as a user gives it."""
    Path("run.json").write_text(config.model_dump_json(exclude={"sweep"}))
    return [sys.executable, str(ROOT / "tunegate.py"), "train", "run.json", "--json"]


@integration
@pytest.mark.parametrize("family", ["classifier", "chat"])
def test_two_processes_give_what_one_gives(family: str, request: pytest.FixtureRequest) -> None:
    make: Callable[..., RunConfig] = request.getfixturevalue(family)
    without_dropout(Path("tiny-bert/config.json"))
    section = {
        "max_steps": 8,
        "batch_size": 4,
        "dtype": "float32",
        "gradient_accumulation_steps": 2 if family == "chat" else 1,
    }
    alone = make(train=section, data={"validation_rows": 8})
    tracker = SimpleNamespace(run_id=None, log_metrics=lambda *_: None)
    prepared(alone)
    expected = finetune(alone, RunPaths.of(alone.name), tracker)
    together = two(alone)
    paths = prepared(together)
    found = finetune(together, paths, tracker)

    assert [process["rank"] for process in found["processes"]] == [0, 1] and {
        process["backend"] for process in found["processes"]
    } == {"gloo"}
    pids = {process["pid"] for process in found["processes"]}
    assert len(pids) == 2 and os.getpid() not in pids and not any(psutil.pid_exists(pid) for pid in pids)
    assert [process["pid"] for process in expected["processes"]] == [os.getpid()]
    assert [line["loss"] for line in found["losses"]] == pytest.approx(
        [line["loss"] for line in expected["losses"]], rel=1e-4
    )
    # a language model's validation loss is the mean of means over each process's share of a micro-batch
    assert [line["eval_loss"] for line in found["validation"]] == pytest.approx(
        [line["eval_loss"] for line in expected["validation"]], rel=1e-2
    )
    assert found["steps"] == expected["steps"] == 8 and found["key"] == expected["key"]
    assert adapters_differ_by(RunPaths.of(alone.name).trained, paths.trained) < 1e-3
    assert not paths.checkpoints.exists() and finetune(together, paths, tracker) == found, "a second call does nothing"


@integration
@pytest.mark.parametrize("family", ["classifier", "chat"])
def test_no_training_wraps_its_model_however_many_gpus_it_sees(
    family: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the rows to the trained weights, with arguments that count four GPUs as transformers counts them."""
    import torch
    from transformers import TrainingArguments

    make: Callable[..., RunConfig] = request.getfixturevalue(family)
    plain, asked = TrainingArguments.__post_init__, []

    def count_four(arguments: Any) -> None:
        plain(arguments)
        arguments._n_gpu = 4
        asked.append(arguments)

    def wrap(*_: Any, **__: Any) -> None:
        raise AssertionError("wrapped in DataParallel")

    monkeypatch.setattr(TrainingArguments, "__post_init__", count_four)
    monkeypatch.setattr(torch.nn.DataParallel, "__init__", wrap)
    config = make(train={"max_steps": 2})
    paths = prepared(config)
    record = finetune(config, paths, SimpleNamespace(run_id=None, log_metrics=lambda *_: None))
    assert record["steps"] == 2 and [arguments.n_gpu for arguments in asked] == [1]
    assert record["real_tokens"] and len(record["losses"]) == 2


def without_dropout(config: Path) -> None:
    """Two processes draw other masks than one; all else is the same."""
    if config.exists():
        config.write_text(
            json.dumps(
                json.loads(config.read_text()) | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
            )
        )


def adapters_differ_by(one: Path, other: Path) -> float:
    """The largest absolute difference of any weight."""
    from safetensors.torch import load_file

    first, second = (load_file(folder / "adapter_model.safetensors") for folder in (one, other))
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def wait_for(condition: Callable[[], Any], seconds: float = 300) -> Any:
    ends = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < ends, "it did not come"
        time.sleep(0.05)
    return found


def end_midway(config: RunConfig, ending: signal.Signals) -> int:
    """The step of the newest whole checkpoint, once the command and its ranks are gone."""
    paths = prepared(config)
    with subprocess.Popen(front_door(config), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: list(paths.checkpoints.glob(f"checkpoint-*/{COMPLETE}")))
        ranks = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(ending)
        assert process.stderr
        said = process.stderr.read()
    assert (
        len(ranks) == 2 and process.returncode == {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}[ending]
    )
    wait_for(lambda: not any(rank.is_running() and rank.status() != psutil.STATUS_ZOMBIE for rank in ranks), 10)
    assert "Traceback" not in said and not paths.trained.exists(), said
    return max(
        int(path.parent.name.removeprefix("checkpoint-")) for path in paths.checkpoints.glob(f"checkpoint-*/{COMPLETE}")
    )


def long_enough(classifier: Callable[..., RunConfig]) -> RunConfig:
    return two(classifier(train={"max_steps": 60, "eval_every_steps": 4, "divergence": {"factor": 1000}}))


@integration
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_no_rank_outlives_a_command_that_is_told_to_end(
    classifier: Callable[..., RunConfig], ending: signal.Signals
) -> None:
    assert end_midway(long_enough(classifier), ending)


@integration
def test_no_rank_outlives_a_killed_command_and_the_next_one_goes_on(classifier: Callable[..., RunConfig]) -> None:
    config = long_enough(classifier)
    newest = end_midway(config, signal.SIGKILL)
    again = subprocess.run(front_door(config), capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    record = json.loads(again.stdout)
    assert record["resumed_from_step"] == newest and record["steps"] == len(record["losses"]) == 60
    assert len({entry["pid"] for entry in record["processes"]}) == 2
