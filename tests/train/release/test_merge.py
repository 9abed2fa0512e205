"""What of the base, of the adapter and of the parent goes into a release, by files; the models themselves are in
test_compress.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from configs.errors import RefusedError
from train.release import merge
from train.release.merge import complete, round_weights, save, save_unmerged

pytestmark = pytest.mark.unit
INDEX = "model.safetensors.index.json"


def folder_of(path: Path, *names: str) -> Path:
    path.mkdir()
    for name in names:
        (path / name).write_text(json.dumps({"from": path.name}))
    return path


def adapter_on(path: Path, *layers: str) -> Path:
    import torch
    from safetensors.torch import save_file

    path.mkdir()
    parts = [f"base_model.model.model.layers.0.x.{layer}.lora_{side}.weight" for layer in layers for side in "AB"]
    save_file({name: torch.zeros(1, 1) for name in parts}, path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text(json.dumps({"r": 4, "target_modules": [*reversed(layers)]}))
    return path


def test_an_index_of_the_parents_shards_goes_nowhere_its_tokenizer_and_template_do(tmp_path: Path) -> None:
    parent = folder_of(
        tmp_path / "parent",
        INDEX,
        "model-00001-of-00002.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
        "config.json",
    )
    release = folder_of(tmp_path / "release", "model.safetensors", "chat_template.jinja", "config.json")
    complete(release, parent)
    assert sorted(file.name for file in release.iterdir()) == [
        "chat_template.jinja",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert json.loads((release / "chat_template.jinja").read_text()) == {"from": "release"}


def test_the_base_stays_as_it_is_shards_and_index_and_the_adapter_lies_beside_it(tmp_path: Path) -> None:
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    base = folder_of(
        tmp_path / "base", INDEX, *shards, "config.json", "generation_config.json", "tokenizer.json", "manifest.json"
    )
    release = folder_of(tmp_path / "release")
    save_unmerged(base, adapter_on(tmp_path / "adapter", "q_proj", "down_proj"), release)
    assert sorted(file.name for file in release.iterdir()) == [
        "config.json",
        "lora",
        *shards,
        INDEX,
    ]
    assert json.loads((release / "lora/adapter_config.json").read_text()) == {
        "r": 4,
        "target_modules": ["down_proj", "q_proj"],
    }
    assert (release / "lora/adapter_model.safetensors").read_bytes() == (
        tmp_path / "adapter/adapter_model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("layer", ["lm_head", "embed_tokens", "wte"])
def test_an_adapter_on_head_or_embedding_is_refused_before_anything_is_copied(tmp_path: Path, layer: str) -> None:
    release = folder_of(tmp_path / "release")
    with pytest.raises(RefusedError, match=f"found {layer}, expected layers inside the model"):
        save_unmerged(
            folder_of(tmp_path / "base", "model.safetensors"),
            adapter_on(tmp_path / "adapter", "q_proj", layer),
            release,
        )
    assert list(release.iterdir()) == []


def test_a_large_model_lies_in_shards_of_the_same_tensors(
    tiny_gpt: Path, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_gpt, dtype=torch.float32)
    save(model, tokenizer, tmp_path / "one", torch.bfloat16)
    monkeypatch.setattr(merge, "SHARD_BYTES", 100_000)
    save(model, tokenizer, tmp_path / "many", torch.bfloat16)
    shards = sorted((tmp_path / "many").glob("*.safetensors"))
    assert len(shards) > 2 and [file.name for file in (tmp_path / "one").glob("*.safetensors")] == ["model.safetensors"]
    one, many = (
        load_file(tmp_path / "one/model.safetensors"),
        {name: tensor for file in shards for name, tensor in load_file(file).items()},
    )
    assert one.keys() == many.keys() and all(torch.equal(one[name], many[name]) for name in one)
    index = json.loads((tmp_path / "many" / INDEX).read_text())
    assert index["metadata"]["total_size"] == sum(2 * tensor.numel() for tensor in one.values())
    assert index["weight_map"].keys() == one.keys()
    AutoModelForCausalLM.from_pretrained(tmp_path / "many")


def test_a_model_held_in_its_stored_dtype_gives_the_bytes_of_one_held_in_float32(
    tiny_gpt: Path, tokenizer: Any, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    for name, held in (("wide", torch.float32), ("narrow", torch.bfloat16)):
        model = AutoModelForCausalLM.from_pretrained(tiny_gpt, dtype=held)
        round_weights(model, torch.bfloat16)
        assert {parameter.dtype for parameter in model.parameters()} == {held}
        save(model, tokenizer, tmp_path / name, torch.bfloat16)
    for file in ("model.safetensors", "config.json"):
        assert (tmp_path / "wide" / file).read_bytes() == (tmp_path / "narrow" / file).read_bytes()
