"""What goes wrong in a training: memory that runs out is met with smaller micro-batches, a divergence with a refusal
that keeps what was good."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from configs.errors import ExternalError, RefusedError
from configs.run.config import RunConfig
from infra.files.atomic import read_json, write_json
from tests.train.test_finetune_resumed import QUIET, Killed, prepared, stop_after
from train.finetune import finetune
from train.loop.checkpoints import whole_checkpoints
from train.loop.constant import refuse_nothing_learnt
from train.quantize import quantize

pytestmark = pytest.mark.integration
EXACT: dict[str, Any] = {"max_steps": 6, "eval_every_steps": 2, "dtype": "float32"}


def turn_off_dropout() -> None:
    """BERT has one of its own, and what it drops hangs on the micro-batch."""
    for path in Path().glob("tiny-*/config.json"):
        write_json(
            path, {**json.loads(path.read_text()), "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        )


def cuda_error() -> Exception:
    import torch

    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def cpu_error() -> Exception:
    return RuntimeError(
        "[enforce fail at alloc_cpu.cpp:126] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 9000000000 bytes"
    )


@contextmanager
def memory_for(
    rows: int, patch: pytest.MonkeyPatch, error: Callable[[], Exception] = cpu_error, from_step: int = 0
) -> Iterator[list[int]]:
    """A machine whose memory holds `rows` rows of a step; yields the sizes of the micro-batches that fitted."""
    from transformers import Trainer

    original, fitted = Trainer.training_step, []

    def step(self: Any, model: Any, inputs: dict[str, Any], *rest: Any) -> Any:
        size = self.args.per_device_train_batch_size
        if size > rows and self.state.global_step >= from_step:
            raise error()
        fitted.append(size)
        return original(self, model, inputs, *rest)

    with patch.context() as inner:
        inner.setattr(Trainer, "training_step", step)
        yield fitted


@pytest.mark.parametrize(("family", "error"), [("chat", cuda_error), ("classifier", cpu_error)])
def test_out_of_memory_halves_the_micro_batch_and_keeps_the_losses(
    family: str,
    error: Callable[[], Exception],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make: Callable[..., RunConfig] = request.getfixturevalue(family)
    turn_off_dropout()
    roomy, tight = make(name="roomy", train=EXACT), make(name="tight", train=EXACT)
    whole = finetune(roomy, prepared(roomy), QUIET)
    with memory_for(1, monkeypatch, error, from_step=3) as fitted:
        record = finetune(tight, prepared(tight), QUIET)
    assert fitted == [4] * 3 + [2] * 2 + [1] * 16, "3 steps of 4; again step 3 in halves; again steps 3 to 6 row by row"
    assert record["micro_batch"] == 1 and record["resumed_from_step"] == 2, (
        "from the last checkpoint, not from the beginning"
    )
    assert [line["loss"] for line in record["losses"]] == pytest.approx(
        [line["loss"] for line in whole["losses"]], rel=1e-4
    )
    assert "going on with 2, the effective batch stays" in capsys.readouterr().err


def test_a_run_killed_after_it_was_halved_does_not_try_the_larger_one_again(
    chat: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = chat(train=EXACT)
    paths = prepared(config)
    with memory_for(2, monkeypatch) as fitted:
        with pytest.raises(Killed):
            finetune(config, paths, stop_after(3))
        fitted.clear()
        assert finetune(config, paths, QUIET)["micro_batch"] == 2 and set(fitted) == {2}


def test_one_row_that_does_not_fit_ends_the_training_with_what_would_help(
    chat: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = chat(train=EXACT)
    with memory_for(0, monkeypatch), pytest.raises(ExternalError, match="gradient_checkpointing"):
        finetune(config, prepared(config), QUIET)


def test_other_errors_are_not_taken_for_memory(chat: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    config = chat(train=EXACT)
    with (
        memory_for(0, monkeypatch, lambda: RuntimeError("shapes do not match")),
        pytest.raises(RuntimeError, match="shapes"),
    ):
        finetune(config, prepared(config), QUIET)


@contextmanager
def corrupted_from(step: int, patch: pytest.MonkeyPatch, corrupt: Callable[[Any], Any]) -> Iterator[None]:
    """From `step` on the loss goes wrong, and with it the gradient."""
    from transformers import Trainer

    original = Trainer.compute_loss

    def compute_loss(self: Any, *rest: Any, **named: Any) -> Any:
        loss = original(self, *rest, **named)
        return corrupt(loss) if self.model.training and self.state.global_step >= step else loss

    with patch.context() as inner:
        inner.setattr(Trainer, "compute_loss", compute_loss)
        yield


def test_a_loss_that_is_no_number_ends_the_training_and_keeps_the_last_good_checkpoint(
    chat: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = chat(train=EXACT)
    paths = prepared(config)
    said = r"diverged at step 4: loss is nan; the last good checkpoint is .*checkpoint-2\n  try: .*learning_rate"
    with (
        corrupted_from(3, monkeypatch, lambda loss: loss * float("nan")),
        pytest.raises(RefusedError, match=said) as refusal,
    ):
        finetune(config, paths, QUIET)
    assert not paths.trained.exists() and refusal.value.exit_code == 1
    assert [path.name for path in whole_checkpoints(paths.checkpoints)] == ["checkpoint-2"]
    assert "loss is nan" in (read_json(paths.checkpoints / "run.json") or {})["diverged"], (
        "the record says what happened"
    )
    with pytest.raises(RefusedError, match="loss is nan"):
        finetune(config, paths, stop_after(1))
    slower = chat(train=EXACT | {"learning_rate": 0.001})
    assert finetune(slower, paths, QUIET)["resumed_from_step"] is None, "another learning rate starts afresh"


def test_a_loss_that_explodes_ends_the_training(
    chat: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = chat(train={"max_steps": 12, "divergence": {"window": 4, "patience": 2}})
    with (
        corrupted_from(7, monkeypatch, lambda loss: loss * 10),
        pytest.raises(RefusedError, match="diverged at step 9: 2 losses in a row above 3 times"),
    ):
        finetune(config, prepared(config), QUIET)


@pytest.mark.parametrize(("family", "said"), [("classifier", "one class for every row"), ("chat", "no lower than")])
def test_a_training_that_learnt_nothing_is_refused_before_quantize(
    family: str, said: str, request: pytest.FixtureRequest
) -> None:
    make: Callable[..., RunConfig] = request.getfixturevalue(family)
    rows = {"validation_rows": 12, "test_rows": 10}
    config = make(data=rows, train=EXACT | {"learning_rate": 1e-30, "eval_every_steps": 6})
    paths = prepared(config)
    record = finetune(config, paths, QUIET)
    with pytest.raises(RefusedError, match=said):
        refuse_nothing_learnt(config, record)
    with pytest.raises(RefusedError, match=said):
        quantize(config, paths)
    assert not paths.release.exists() and finetune(config, paths, QUIET) == record, "and again, without training"
    wanted = config.model_copy(update={"train": config.train.model_copy(update={"accept_constant": True})})
    assert finetune(wanted, paths, QUIET) == record, "nothing is trained anew for going on"
    refuse_nothing_learnt(wanted, record)


def test_the_best_checkpoint_is_saved_when_it_is_found_whatever_the_schedule_of_the_others(
    chat: Callable[..., RunConfig],
) -> None:
    config = chat(train=EXACT | {"max_steps": 9, "eval_every_steps": 2, "save_every_steps": 5})
    paths = prepared(config)
    with pytest.raises(Killed):
        finetune(config, paths, stop_after(5))
    kept = [path.name for path in whole_checkpoints(paths.checkpoints)]
    assert kept == ["checkpoint-4"], "each validation found a new best one; step 5 was not yet saved"
    held = {file.name for file in (paths.checkpoints / "checkpoint-4").glob("*.safetensors")}
    assert held == {"adapter_model.safetensors"}, "the frozen base is not saved again"
    record = finetune(config, paths, QUIET)
    assert record["resumed_from_step"] == 4 and [point["step"] for point in record["validation"]] == [2, 4, 6, 8, 9]
