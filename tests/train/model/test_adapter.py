"""Each way to adapt the base: what merging makes is what training had, and what cannot be done is refused with its
reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from configs.errors import RefusedError
from configs.run.config import RunConfig
from train.model.adapter import (
    adapted_model,
    load_trained,
    lora_config,
    require_device,
    save_trained,
    trained_key,
    use_loraplus_optimizer,
    wrap_model,
)
from train.model.heads import new_model

pytestmark = pytest.mark.unit
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "gaussian": {"initialization": "gaussian"},
    "rslora": {"rslora": True},
    "dora": {"dora": True},
    "pissa": {"initialization": "pissa"},
    "pissa and rslora": {"initialization": "pissa", "rslora": True},
    "loraplus": {"loraplus_ratio": 16},
    "biases": {"bias": "all"},
    "list of modules": {"target_modules": ["q_proj", "v_proj"]},
    "regular expression": {"target_modules": r".*\.layers\.1\..*(q|v)_proj"},
    "patterns": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 16}},
    "pissa and patterns": {"initialization": "pissa", "rank_pattern": {"q_proj": 2}},
}


def train_two_steps(config: RunConfig, model: Any, inputs: dict[str, Any]) -> SimpleNamespace:
    """Plain AdamW, or the optimizer that the config asks for: what a trainer would have after two steps."""
    import torch

    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    trainer = use_loraplus_optimizer(SimpleNamespace(model=model, optimizer=None), config)
    optimizer = trainer.optimizer or torch.optim.AdamW(parameters, lr=config.train.learning_rate or 0.0)
    for _ in range(2):
        model(**inputs).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return trainer


def merged_and_trained(
    config: RunConfig, base: Path, labels: list[str], inputs: dict[str, Any], folder: Path
) -> tuple[Any, Any, Any]:
    """Logits of the base, of the trained model as it stood in training, and of the one that merging loads."""
    import torch

    torch.manual_seed(1)
    model = adapted_model(config, base, labels)
    with torch.inference_mode():
        before = new_model(config, base, labels).eval()(**inputs).logits
    trainer = train_two_steps(config, model.train(), inputs)
    folder.mkdir()
    save_trained(trainer, config, base, folder)
    with torch.inference_mode():
        return before, model.eval()(**inputs).logits, load_trained(config, base, folder, labels).eval()(**inputs).logits


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_merged_model_answers_as_the_trained_one_did(
    chat: Callable[..., RunConfig], tmp_path: Path, variant: str
) -> None:
    import torch

    config, ids = chat(train={"lora": {"rank": 4, "alpha": 8} | VARIANTS[variant]}), torch.arange(5, 21).reshape(2, 8)
    before, trained, merged = merged_and_trained(
        config, Path("tiny-gpt"), [], {"input_ids": ids, "labels": ids}, tmp_path / "adapter"
    )
    assert (trained - before).abs().max() > 1e-2, "two steps have changed the answers"
    torch.testing.assert_close(merged, trained, atol=2e-5, rtol=1e-4)
    assert not (tmp_path / "adapter" / "README.md").exists()


@pytest.mark.parametrize("variant", [name for name in VARIANTS if "pissa" not in name])
def test_what_is_rounded_layer_by_layer_is_the_float32_sum_rounded_bit_for_bit(
    chat: Callable[..., RunConfig], tmp_path: Path, variant: str
) -> None:
    import torch

    config, ids = chat(train={"lora": {"rank": 4, "alpha": 8} | VARIANTS[variant]}), torch.arange(5, 21).reshape(2, 8)
    merged_and_trained(config, Path("tiny-gpt"), [], {"input_ids": ids, "labels": ids}, tmp_path / "adapter")
    whole, narrow = (
        load_trained(config, Path("tiny-gpt"), tmp_path / "adapter", [], dtype).state_dict()
        for dtype in (None, torch.bfloat16)
    )
    assert whole.keys() == narrow.keys() and {tensor.dtype for tensor in narrow.values()} == {torch.bfloat16}
    assert all(torch.equal(whole[name].bfloat16(), narrow[name]) for name in whole)


def test_experts_are_summed_in_float32_and_rounded_too(
    chat: Callable[..., RunConfig], tokenizer: Any, tmp_path: Path
) -> None:
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM, MixtralConfig

    sizes: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 300}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2}
    torch.manual_seed(0)
    base, config = tmp_path / "base", chat(train={"lora": {"rank": 4, "alpha": 8}})
    AutoModelForCausalLM.from_config(MixtralConfig(**sizes)).to(torch.bfloat16).save_pretrained(base)
    tokenizer.save_pretrained(base)
    plain = new_model(config, base, [])
    adapted = get_peft_model(plain, lora_config(config))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted.save_pretrained(tmp_path / "adapter")
    whole, narrow = (
        load_trained(config, base, tmp_path / "adapter", [], dtype).state_dict() for dtype in (None, torch.bfloat16)
    )
    assert any("experts" in name for name in narrow)
    assert all(torch.equal(whole[name].bfloat16(), narrow[name]) for name in whole)


@pytest.mark.parametrize("task", ["sequence-classification", "token-classification"])
@pytest.mark.parametrize("variant", ["plain", "dora", "pissa", "biases"])
def test_a_new_head_is_trained_whole_and_travels_with_the_adapter(
    classifier: Callable[..., RunConfig], tmp_path: Path, task: str, variant: str
) -> None:
    import torch

    config = classifier(task=task, train={"lora": {"rank": 4, "alpha": 8} | VARIANTS[variant]})
    ids = torch.arange(5, 21).reshape(2, 8)
    targets = torch.tensor([0, 1]) if task == "sequence-classification" else ids % 2
    model = adapted_model(config, Path("tiny-bert"), ["a", "b"])
    adapted = [name for name, _ in model.named_parameters() if "lora_A" in name]
    assert adapted and not any("classifier" in name for name in adapted), "the head is no low-rank matter"
    _, trained, merged = merged_and_trained(
        config, Path("tiny-bert"), ["a", "b"], {"input_ids": ids, "labels": targets}, tmp_path / "adapter"
    )
    torch.testing.assert_close(merged, trained, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("labelled", [True, False])
def test_full_fine_tuning_changes_every_weight_and_leaves_a_whole_model(
    chat: Callable[..., RunConfig], classifier: Callable[..., RunConfig], tmp_path: Path, labelled: bool
) -> None:
    import torch

    make, base, labels = (classifier, "tiny-bert", ["a", "b"]) if labelled else (chat, "tiny-gpt", [])
    config = full(make)
    ids = torch.arange(5, 21).reshape(2, 8)
    inputs = {"input_ids": ids, "labels": torch.tensor([0, 1]) if labelled else ids}
    assert all(parameter.requires_grad for parameter in adapted_model(config, Path(base), labels).parameters())
    before, trained, merged = merged_and_trained(config, Path(base), labels, inputs, tmp_path / "adapter")
    assert (trained - before).abs().max() > 1e-2
    torch.testing.assert_close(
        merged, trained, atol=1e-6, rtol=1e-5
    )  # the trained one sums in another order (train.norms)


def full(make: Callable[..., RunConfig]) -> RunConfig:
    config = make()
    document = config.model_dump()
    document["train"] |= {"method": "full"}
    del document["train"]["lora"]
    return RunConfig.model_validate(document)


def test_what_training_left_is_known_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(b"one")
    first = trained_key(tmp_path)
    (tmp_path / "training.json").write_text("{}")
    assert trained_key(tmp_path) == first
    (tmp_path / "adapter_model.safetensors").write_bytes(b"two")
    assert trained_key(tmp_path) != first


def test_loraplus_gives_b_its_own_rate_and_resumes_where_it_stopped(chat: Callable[..., RunConfig]) -> None:
    import torch

    config, ids = chat(train={"lora": {"rank": 4, "alpha": 8, "loraplus_ratio": 16}}), torch.arange(5, 21).reshape(2, 8)
    torch.manual_seed(1)
    model = adapted_model(config, Path("tiny-gpt"), [])
    trainer = train_two_steps(config, model, {"input_ids": ids, "labels": ids})
    rates = {group["lr"] for group in trainer.optimizer.param_groups if group["params"]}
    assert sorted(rates) == pytest.approx([0.01, 0.16])
    again = use_loraplus_optimizer(SimpleNamespace(model=model, optimizer=None), config)
    again.optimizer.load_state_dict(trainer.optimizer.state_dict())
    first, second = (list(one.optimizer.state_dict()["state"].values()) for one in (trainer, again))
    assert first and all(
        torch.equal(one["exp_avg"], other["exp_avg"]) for one, other in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("changes", [{"method": "qlora"}, {"lora": {"initialization": "loftq"}}])
def test_four_bits_without_a_gpu_are_refused_before_any_work(
    chat: Callable[..., RunConfig], changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RefusedError, match="found no GPU") as caught:
        adapted_model(chat(train=changes), Path("nowhere"), [])
    assert "--set train.method=lora" in str(caught.value)
    require_device(chat())


def test_without_an_adapter_the_model_is_itself(chat: Callable[..., RunConfig]) -> None:
    model = object()
    assert wrap_model(model, full(chat)) is model
