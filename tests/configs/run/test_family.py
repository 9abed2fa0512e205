"""What hangs on an architecture, held against vLLM's own registry and transformers' own classes; and what `check` says
of a base before anything is trained."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import ConfigError
from configs.loader import load
from configs.run import family
from configs.run.config import RunConfig
from configs.run.family import (
    bending,
    is_gated,
    is_outer,
    kind_of,
    size_of,
    stand_in_for_padding,
    unserved,
)
from tests.paths import PACKAGES, ROOT

pytestmark = pytest.mark.unit
REGISTRY = ROOT / ".venv-serve" / PACKAGES / "vllm/model_executor/models/registry.py"


@pytest.fixture(scope="module")
def registry() -> dict[str, set[str]]:
    """Architectures by the name of vLLM's table, read and not imported."""
    if not REGISTRY.exists():
        pytest.skip("the serve environment is not here: make setup")
    found: dict[str, set[str]] = {}
    for node in ast.parse(REGISTRY.read_text(encoding="utf8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = {str(key.value) for key in node.value.keys if isinstance(key, ast.Constant)}
    return found


def test_every_type_in_the_tables_is_a_class_of_transformers_that_vllm_serves(registry: dict[str, set[str]]) -> None:
    from transformers.models.auto import modeling_auto as auto

    written = registry["_TEXT_GENERATION_MODELS"] | registry["_TRANSFORMERS_SUPPORTED_MODELS"]
    classified, tagged = registry["_SEQUENCE_CLASSIFICATION_MODELS"], registry["_TOKEN_CLASSIFICATION_MODELS"]
    causal, sequence = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    tokens = auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES
    assert [name for name in sorted(family.GENERATORS) if causal.get(name) not in written] == []
    assert [name for name in sorted(family.CLASSIFIERS) if sequence.get(name) not in classified] == []
    assert [name for name in sorted(family.TAGGERS) if tokens.get(name) not in tagged] == []
    adapted = [name for name in sorted(family.CLASSIFYING_GENERATORS) if sequence.get(name) not in classified]
    stems = {name: str(sequence[name]).removesuffix("ForSequenceClassification") for name in adapted}
    assert [name for name, stem in stems.items() if not {f"{stem}ForCausalLM", f"{stem}LMHeadModel"} & written] == []
    assert family.CLASSIFYING_GENERATORS <= family.GENERATORS


@pytest.mark.parametrize(
    ("config", "kind", "gated"),
    [
        ({"model_type": "llama"}, "decoder", True),
        ({"model_type": "olmo"}, "decoder", True),
        ({"model_type": "gpt_neox"}, "decoder", False),
        ({"model_type": "gpt2"}, "decoder", False),
        ({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text"}}, "decoder", True),
        ({"model_type": "new", "architectures": ["NewForCausalLM"]}, "decoder", True),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "encoder", False),
        ({"model_type": "modernbert"}, "encoder", True),
        ({"model_type": "distilbert"}, "encoder", False),
    ],
)
def test_gpt_type_or_bert_type_and_how_many_products_a_feed_forward_has(
    config: dict[str, Any], kind: str, gated: bool
) -> None:
    assert (kind_of(config), is_gated(config)) == (kind, gated)


@pytest.mark.parametrize(
    ("config", "sizes"),
    [
        (
            {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
            (64, 128, 2, 4),
        ),
        ({"n_embd": 64, "n_inner": None, "n_layer": 2, "n_head": 4}, (64, 256, 2, 4)),
        ({"dim": 64, "hidden_dim": 128, "n_layers": 2, "n_heads": 4}, (64, 128, 2, 4)),
    ],
)
def test_a_size_has_one_name_whatever_the_family_calls_it(config: dict[str, Any], sizes: tuple[int, ...]) -> None:
    assert tuple(size_of(config, name) for name in family.SIZES) == sizes


@pytest.mark.parametrize(
    ("name", "outer"),
    [
        ("lm_head", True),
        ("embed_out", True),
        ("bert.pooler.dense", True),
        ("classifier.out_proj", True),
        ("head.dense", True),
        ("pre_classifier", True),
        ("score", True),
        ("electra.embeddings_project", True),
        ("classifier.0.dense", True),
        ("bert.encoder.layer.0.attention.self.query", False),
        ("model.layers.11.mlp.down_proj", False),
        ("layers.3.Wqkv", False),
        ("gpt_neox.layers.0.attention.query_key_value", False),
    ],
)
def test_only_what_lies_in_a_block_of_layers_is_made_smaller(name: str, outer: bool) -> None:
    assert is_outer(name) is outer


@pytest.mark.parametrize(
    ("special", "unknown", "end", "expected"),
    [
        (["<|begin_of_text|>", "<|finetune_right_pad_id|>", "<|reserved_special_token_0|>"], None, "<|eot|>", 1),
        (["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>"], None, "<|end_of_text|>", 2),
        (["<unk>", "<s>", "</s>"], "<unk>", "</s>", 0),
        (["<|endoftext|>", "<|padding|>"], "<|endoftext|>", "<|endoftext|>", 1),
        (["<|endoftext|>"], "<|endoftext|>", "<|endoftext|>", 0),
        (["<eos>", "<unused0>"], None, "<eos>", 1),
    ],
)
def test_padding_is_a_token_made_or_kept_for_it_and_the_end_only_at_last(
    special: list[str], unknown: str | None, end: str, expected: int
) -> None:
    assert stand_in_for_padding(special, unknown, end) == special[expected]


@given(st.lists(st.sampled_from(["<s>", "</s>", "<unk>", "<pad>", "[PAD]", "<unused3>", "x"]), unique=True))
def test_a_stand_in_is_one_of_the_tokenizers_own_and_the_end_only_where_no_other_is(special: list[str]) -> None:
    unknown = "<unk>" if "<unk>" in special else None
    found = stand_in_for_padding(special, unknown, "</s>" if "</s>" in special else None)
    assert found in {*special, None}
    if found == "</s>":
        assert not {"<pad>", "[PAD]", "<unused3>", "<unk>"} & set(special)


def test_what_bends_a_greedy_answer_is_told_from_what_only_draws() -> None:
    found = {"temperature": 0.6, "top_p": 0.9, "do_sample": True, "eos_token_id": [1, 2], "repetition_penalty": 1.0}
    assert bending(found | {"num_beams": 1, "forced_eos_token_id": None, "bad_words_ids": []}) == {}
    bent = {"repetition_penalty": 1.1, "no_repeat_ngram_size": 3, "suppress_tokens": [4], "max_new_tokens": 8}
    assert bending(found | bent) == bent


def run_with(tmp_path: Path, config: dict[str, Any], task: str, **quantize: Any) -> list[str]:
    (tmp_path / "base").mkdir(exist_ok=True)
    (tmp_path / "base" / "config.json").write_text(json.dumps(config), encoding="utf8")
    (tmp_path / "rows.jsonl").touch()
    (tmp_path / "gate.yaml").write_text("rules: [{rule: parity}]\n", encoding="utf8")
    run = {"name": "run", "task": task, "base": {"path": "base"}, "train": {"max_steps": 1}, "gate": "gate.yaml"}
    run |= {"data": {"source": "files", "files": ["rows.jsonl"]}, "quantize": quantize}
    (tmp_path / "run.yaml").write_text(json.dumps(run), encoding="utf8")
    try:
        load(tmp_path / "run.yaml", RunConfig)
    except ConfigError as error:
        return [problem.expected for problem in error.problems]
    return []


@pytest.mark.parametrize("name", ["deberta-v2", "distilbert", "electra", "gemma3", "t5"])
def test_check_refuses_a_base_that_is_not_served_with_the_reason(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for task in ("sequence-classification", "token-classification"):
        (found,) = run_with(tmp_path, {"model_type": name}, task)
        shown = family.TEXT_PARTS.get(name, name)
        assert found.startswith(f"a base that vLLM 0.32.0 serves for {task} (bert, modernbert, roberta, xlm-roberta")
        assert found.endswith(f"found model_type {shown}")


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("llama", "sequence-classification"),
        ("gemma3", "causal-lm"),
        ("gpt_neox", "dpo"),
        ("bert", "token-classification"),
    ],
)
def test_check_lets_through_what_is_served(
    name: str, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_with(tmp_path, {"model_type": name}, task) == []
    assert unserved({"model_type": name}, "causal-lm") is None or name == "bert"


def test_check_refuses_to_quantize_transposed_layers_and_an_adapter_that_vllm_does_not_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    gpt2 = {"model_type": "gpt2"}
    assert "transposed layers of gpt2" in run_with(tmp_path, gpt2, "causal-lm")[0]
    assert "vLLM serves no unmerged adapter" in run_with(tmp_path, gpt2, "causal-lm", scheme="adapter")[0]
    assert run_with(tmp_path, gpt2, "causal-lm", scheme="none") == []
