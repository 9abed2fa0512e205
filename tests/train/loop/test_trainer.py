"""What every task's model is given alike: the attention that was asked for, and noise on its embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from configs.errors import InputError
from configs.run.config import RunConfig
from tests.support.run_yaml import GOOD
from train.loop.trainer import change_model

pytestmark = pytest.mark.unit
TASKS = {"sequence-classification": "bert", "token-classification": "bert", "dpo": "gpt"}


def config(task: str, **train: Any) -> RunConfig:
    rows = {"source": "files", "files": ["rows.jsonl"]}
    return RunConfig.model_validate(GOOD | {"task": task, "data": rows, "train": {"max_steps": 1} | train})


def load(task: str, tiny_bert: Path, tiny_gpt: Path) -> Any:
    from transformers import AutoModel, AutoModelForCausalLM

    model: Any = (
        AutoModel.from_pretrained(tiny_bert)
        if TASKS[task] == "bert"
        else AutoModelForCausalLM.from_pretrained(tiny_gpt)
    )
    return model


@pytest.mark.parametrize("name", ["eager", "sdpa"])
@pytest.mark.parametrize("task", TASKS)
def test_the_attention_that_is_asked_for_is_the_one_that_is_used(
    task: str, name: str, tiny_bert: Path, tiny_gpt: Path
) -> None:
    model = load(task, tiny_bert, tiny_gpt)
    change_model(model, config(task, method="full", attention=name))
    assert model.config._attn_implementation == name


@pytest.mark.parametrize("task", TASKS)
def test_an_attention_that_is_not_to_be_had_is_refused_by_its_key(task: str, tiny_bert: Path, tiny_gpt: Path) -> None:
    with pytest.raises(InputError, match=r"train\.attention: found flash_attention_2"):
        change_model(load(task, tiny_bert, tiny_gpt), config(task, method="full", attention="flash_attention_2"))


@pytest.mark.parametrize("method", ["lora", "full"])
def test_noise_is_in_training_alone(method: str, tiny_gpt: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    plain = load("dpo", tiny_gpt, tiny_gpt).float()
    model: Any = plain if method == "full" else get_peft_model(plain, LoraConfig(target_modules="all-linear"))
    change_model(model, config("causal-lm", method=method, neftune_alpha=5))
    given = torch.tensor([[5, 6, 7]])
    said = [model.train(training)(input_ids=given).logits for training in (False, False, True, True)]
    assert torch.equal(said[0], said[1]) and not torch.equal(said[2], said[3])


def test_what_trl_trains_is_held_in_float32_too(tiny_gpt: Path) -> None:
    """A reward model's head, new in a base of half precision, is trained by TRL's own adapter."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification

    plain = AutoModelForSequenceClassification.from_pretrained(tiny_gpt, num_labels=1, dtype=torch.bfloat16)
    model: Any = get_peft_model(plain, LoraConfig(task_type="SEQ_CLS", target_modules="all-linear"))
    trained = {name: one for name, one in model.named_parameters() if one.requires_grad}
    assert {one.dtype for one in trained.values()} == {torch.float32, torch.bfloat16}, "the head is not"
    change_model(model, config("reward"))
    assert {one.dtype for one in trained.values()} == {torch.float32}, "and the optimizer's are the same ones"
    assert {one.dtype for one in model.parameters() if not one.requires_grad} == {torch.bfloat16}


def test_what_a_step_keeps_waits_where_trls_context_puts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole step, backward included, as TRL's own trainers do it."""
    from contextlib import contextmanager
    from types import SimpleNamespace

    import trl.models.activation_offloading as offloading

    from train.loop.memory import offload_activations

    said: list[str] = []

    @contextmanager
    def context() -> Any:
        said.append("in")
        yield
        said.append("out")

    monkeypatch.setattr(offloading, "get_act_offloading_ctx_manager", lambda model, **_: Reentered(context))

    class Reentered:
        def __init__(self, make: Any) -> None:
            self.make = make

        def __enter__(self) -> None:
            self.within = self.make()
            self.within.__enter__()

        def __exit__(self, *error: Any) -> None:
            self.within.__exit__(*error)

    trainer = SimpleNamespace(model=None, training_step=lambda *_: said.append("step"))
    offload_activations(trainer)
    trainer.training_step(None, None)
    trainer.training_step(None, None)
    assert said == ["in", "step", "out"] * 2
