"""Every family's model for every task that it can do: what the checkpoint lacks is trained and saved, so that the
merged model answers as the trained one did."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from configs.errors import RefusedError
from configs.run.config import RunConfig
from configs.run.family import true_attention
from infra.tokenizer import load_tokenizer
from tests.support.tiny_families import DECODERS, ENCODERS, SIZES, make_family
from tests.train.conftest import make_config
from train.layers.lora import fuse_adapters
from train.model.adapter import save_trained, wrap_model
from train.model.heads import load_classifier, load_tagger, new_model, outermost

pytestmark = pytest.mark.unit
LABELS = ["bad", "good", "plain"]
TEXTS = ["a fine film", "one poor film is a poor film", "user"]
Base = Callable[[str], Path]
NEW = {
    "bert-without-pooler": ["bert.pooler.dense"],
    "deberta-v3": ["pooler.dense"],
    "modernbert": ["head.dense", "head.norm"],
}


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """The base of a family, made once."""
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            made[name] = make_family(name, tmp_path_factory.mktemp("families") / name)
        return made[name]

    return make


def run_of(task: str, **train: Any) -> RunConfig:
    settings: dict[str, Any] = {"learning_rate": 0.01, "max_steps": 2, "lora": {"rank": 4, "alpha": 8}}
    return make_config("tiny", task, "base", {"train": settings | train, "quantize": {"scheme": "none"}})


def load(config: RunConfig, weights: Path) -> Any:
    """Also of a family that vLLM does not serve."""
    if config.task == "sequence-classification":
        return load_classifier(weights, LABELS)
    return load_tagger(weights, LABELS) if config.task == "token-classification" else new_model(config, weights, [])


def inputs_of(folder: Path) -> dict[str, Any]:
    found = load_tokenizer(folder)(TEXTS, return_tensors="pt", padding=True, return_token_type_ids=False)
    return dict(found)


def train_two_steps(config: RunConfig, model: Any, inputs: dict[str, Any]) -> Any:
    import torch

    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    if config.task == "sequence-classification":
        labels = torch.tensor([0, 1, 2])
    elif config.task == "token-classification":
        labels = labels.clamp(max=2)
    trained = wrap_model(model, config)
    fuse_adapters(trained)
    optimizer = torch.optim.AdamW([one for one in trained.parameters() if one.requires_grad], lr=0.01)
    for _ in range(2):
        trained.train()(**inputs, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return trained.eval()


def logits_of(model: Any, inputs: dict[str, Any]) -> Any:
    import torch

    with torch.inference_mode():
        found = model(**inputs).logits
    return found[inputs["attention_mask"].bool()] if found.dim() == 3 else found


CELLS = [
    *((name, "causal-lm") for name in DECODERS),
    *((name, "sequence-classification") for name in (*DECODERS, *ENCODERS)),
    *((name, "token-classification") for name in ENCODERS),
]


@pytest.mark.parametrize(("name", "task"), CELLS)
def test_the_merged_model_answers_as_the_trained_one(name: str, task: str, base: Base, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel

    config, folder = run_of(task), base(name)
    inputs = inputs_of(folder)
    torch.manual_seed(1)
    trained = train_two_steps(config, load(config, folder), inputs)
    save_trained(SimpleNamespace(model=trained), config, folder, tmp_path / "trained")
    torch.manual_seed(2)  # whatever is drawn for the release is not what was drawn for the training
    untouched = load(config, folder)
    before = logits_of(untouched.eval(), inputs)
    merged = PeftModel.from_pretrained(untouched, tmp_path / "trained").merge_and_unload().eval()
    wanted, found = logits_of(trained, inputs), logits_of(merged, inputs)
    assert (wanted - found).abs().max() < 1e-5 * max(1.0, float(wanted.abs().max()))
    assert (wanted - before).abs().max() > 1e-3  # it learnt something, and the adapter holds it
    merged.save_pretrained(tmp_path / "release")
    attention = true_attention(merged.config.to_dict())
    saved = type(merged).from_pretrained(tmp_path / "release", attn_implementation=attention).eval()
    assert (logits_of(saved, inputs) - found).abs().max() < 1e-5


@pytest.mark.parametrize("name", ENCODERS)
def test_layers_without_weights_are_named_by_the_model_itself(name: str, base: Base) -> None:
    found = load_classifier(base(name), LABELS).new_layers
    assert found == NEW.get(name, []), found


@pytest.mark.parametrize("name", ["llama3", "mistral", "gpt2", "gpt-neox"])
def test_a_decoder_without_a_padding_token_gets_one_that_its_config_tells(name: str, base: Base) -> None:
    folder = base(name)
    model, tokenizer = load_classifier(folder, LABELS), load_tokenizer(folder)
    assert json.loads((folder / "config.json").read_text()).get("pad_token_id") is None
    assert model.config.pad_token_id == tokenizer.pad_token_id is not None
    alone = [logits_of(model.eval(), {k: v[None] for k, v in one.items()}) for one in unpadded(tokenizer)]
    together = logits_of(model, inputs_of(folder))
    assert all((one[0] - row).abs().max() < 1e-4 for one, row in zip(alone, together, strict=True))


def unpadded(tokenizer: Any) -> list[dict[str, Any]]:
    import torch

    ids = [torch.tensor(tokenizer(text)["input_ids"]) for text in TEXTS]
    return [{"input_ids": one, "attention_mask": torch.ones_like(one)} for one in ids]


@pytest.mark.parametrize("saved_as", ["BertForSequenceClassification", "BertForTokenClassification"])
@pytest.mark.parametrize("task", ["sequence-classification", "token-classification"])
def test_a_base_with_a_head_of_another_size_or_task_gets_a_new_one(saved_as: str, task: str, tmp_path: Path) -> None:
    import transformers

    sizes: dict[str, Any] = {"vocab_size": 300, "num_labels": 5, **SIZES}
    head = getattr(transformers, saved_as)(transformers.BertConfig(**sizes))
    head.save_pretrained(tmp_path / "base")
    make_family("bert", tmp_path / "tokenizer")
    for file in (tmp_path / "tokenizer").glob("tokenizer*"):
        shutil.copy(file, tmp_path / "base")
    model = load(run_of(task), tmp_path / "base")
    assert model.config.num_labels == 3 and model.classifier.weight.shape[0] == 3
    assert model.config.id2label == dict(enumerate(LABELS))


def test_weights_that_lack_a_part_of_the_model_itself_are_refused_before_any_training(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = make_family("sentence-transformers", tmp_path / "base")
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {name: one for name, one in tensors.items() if "layer.1.output.dense" not in name},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(
        RefusedError, match=r"BertForSequenceClassification missing .*encoder\.layer\.1\.output\.dense;"
    ):
        load_classifier(folder, LABELS)


def test_a_language_model_without_its_head_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = make_family("gpt-neox", tmp_path / "base")
    tensors = {name: one for name, one in load_file(folder / "model.safetensors").items() if "embed_out" not in name}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RefusedError, match=r"found no weights of .*, expected those of a whole language model"):
        new_model(run_of("causal-lm"), folder, [])


def test_a_family_that_vllm_does_not_serve_is_refused_when_it_comes_after_check(base: Base) -> None:
    with pytest.raises(RefusedError, match=r"a base that vLLM 0\.32\.0 serves for token-classification"):
        new_model(run_of("token-classification"), base("deberta-v3"), LABELS)


def test_only_the_outermost_new_layer_is_named_and_no_head() -> None:
    assert outermost({"classifier", "classifier.dense", "bert.pooler", "bert.pooler.dense", "pre_classifier"}) == [
        "bert.pooler"
    ]
