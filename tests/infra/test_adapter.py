"""A trained adapter by itself: peft loads it over its base, and it is what the release was merged from."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from configs.errors import InputError, RefusedError
from configs.paths import RunPaths
from configs.run.config import RunConfig
from infra.adapter import write_adapter
from infra.files.atomic import read_json
from tests.train.conftest import chat, checkout, tiny_gpt, tokenizer
from train.finetune import finetune
from train.model.base import make_base
from train.prepare import prepare

__all__ = ["chat", "checkout", "tiny_gpt", "tokenizer"]
pytestmark = pytest.mark.unit
QUIET = SimpleNamespace(run_id=None, log_metrics=lambda *_: None)


def test_peft_loads_it_over_its_base_and_answers_as_the_trained_model(
    chat: Callable[..., RunConfig], tmp_path: Path
) -> None:
    import torch
    from peft import AutoPeftModelForCausalLM, PeftModel
    from transformers import AutoModelForCausalLM

    config = chat(train={"lora": {"rank": 4, "modules_to_save": ["norm"]}})
    paths = RunPaths.of(config.name)
    with pytest.raises(InputError, match="tunegate train CONFIG"):
        write_adapter(config, paths, tmp_path / "adapter")
    prepare(config, paths, make_base(config))
    finetune(config, paths, QUIET)
    write_adapter(config, paths, tmp_path / "adapter")
    names = {file.name for file in (tmp_path / "adapter").iterdir()}
    assert names == {"adapter_model.safetensors", "adapter_config.json", "README.md"}
    given = torch.tensor([[5, 6, 7, 8]])
    base = AutoModelForCausalLM.from_pretrained("tiny-gpt", dtype=torch.float32)
    plain = base(given).logits
    wanted = PeftModel.from_pretrained(base, str(paths.trained)).eval()(given).logits
    found = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter", dtype=torch.float32).eval()(given).logits
    assert torch.allclose(found, wanted, atol=1e-5) and not torch.allclose(found, plain, atol=1e-3)
    with pytest.raises(InputError, match="expected a new folder"):
        write_adapter(config, paths, tmp_path / "adapter")
    shutil.rmtree("build/base")
    with pytest.raises(InputError, match="it is the base that was trained"):
        write_adapter(config, paths, tmp_path / "another")


def test_a_base_of_the_hub_is_named_by_its_id(chat: Callable[..., RunConfig], tmp_path: Path) -> None:
    config = chat()
    paths = RunPaths.of(config.name)
    prepare(config, paths, make_base(config))
    finetune(config, paths, QUIET)
    hub: Any = {"path": None, "hub": "owner/name", "revision": "a" * 40}
    write_adapter(config.model_copy(update={"base": config.base.model_copy(update=hub)}), paths, tmp_path / "adapter")
    settings = read_json(tmp_path / "adapter/adapter_config.json") or {}
    assert (settings["base_model_name_or_path"], settings["revision"]) == ("owner/name", "a" * 40)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lora": {"rank": 4, "initialization": "pissa"}}, "initialization pissa changed the base"),
        ({"base": {"path": "tiny-gpt", "add_tokens": ["<x>"]}}, "base.add_tokens changed the base"),
        ({"method": "full"}, "train.method full leaves no adapter"),
    ],
)
def test_what_no_base_fits_is_refused(
    chat: Callable[..., RunConfig], tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    document = chat().model_dump()
    if "base" in changes:
        document |= changes
    else:
        document["train"] = {key: value for key, value in document["train"].items() if key != "lora"} | changes
    with pytest.raises(RefusedError, match=said):
        write_adapter(RunConfig.model_validate(document), RunPaths.of("x"), tmp_path / "adapter")
