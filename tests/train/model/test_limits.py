"""What a base's own files say that it cannot do: tokens without an embedding, rows longer than its positions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from configs.errors import InputError
from configs.run.config import RunConfig
from tests.support.safetensors_files import write_weights
from train.model.limits import limits_here, limits_of, positions_of, refuse_beyond_limits

pytestmark = pytest.mark.unit
ROWS = 8
# The names by which families call their token embedding.
EMBEDDINGS = [
    "model.embed_tokens.weight",
    "transformer.wte.weight",
    "wte.weight",
    "gpt_neox.embed_in.weight",
    "bert.embeddings.word_embeddings.weight",
    "embeddings.word_embeddings.weight",
    "model.embeddings.tok_embeddings.weight",
    "language_model.model.embed_tokens.weight",
]


def config(**changes: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "name": "demo",
            "task": "causal-lm",
            "base": {"path": "base"},
            "data": {"source": "bfcl"} | changes.get("data", {}),
            "train": {"max_steps": 4} | changes.get("train", {}),
            "serving": {"max_model_len": 512} | changes.get("serving", {}),
            "gate": "gate.yaml",
        }
    )


def write_base(
    folder: Path,
    embedding: str = EMBEDDINGS[0],
    added: dict[str, int] | None = None,
    unigram: bool = False,
    **keys: Any,
) -> Path:
    """A base of ROWS rows whose tokenizer has as many tokens, and those of `added`."""
    folder.mkdir(exist_ok=True)
    names = [f"t{number}" for number in range(ROWS)]
    vocabulary: Any = (
        [[name, 0.0] for name in names] if unigram else {name: number for number, name in enumerate(names)}
    )
    write_weights(folder / "model.safetensors", {embedding: [ROWS, 2], "layer.weight": [2, 2]})
    tokens = [{"id": number, "content": text} for text, number in (added or {}).items()]
    page = {"model": {"vocab": vocabulary}, "added_tokens": tokens}
    (folder / "tokenizer.json").write_text(json.dumps(page))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": ROWS} | keys))
    return folder


@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_a_token_beyond_the_embedding_is_named(tmp_path: Path, embedding: str) -> None:
    base = write_base(tmp_path / "base", embedding, {"<|case|>": ROWS})
    (limit,) = limits_of(config(), base)
    assert limit.key == "base" and f"'<|case|>' ({ROWS})" in limit.found and f"below {ROWS}" in limit.expected
    with pytest.raises(InputError, match="cannot do what the run asks"):
        refuse_beyond_limits(config(), base)


@pytest.mark.parametrize("unigram", [False, True])
@pytest.mark.parametrize("added", [{}, {"t3": 3}, {"<image_soft_token>": ROWS}])
def test_a_tokenizer_that_fits_and_tokens_that_are_no_text_are_fine(
    tmp_path: Path, added: dict[str, int], unigram: bool
) -> None:
    assert limits_of(config(), write_base(tmp_path / "base", added=added, unigram=unigram)) == []


def test_a_vocabulary_itself_may_be_beyond(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", unigram=True)
    write_weights(base / "model.safetensors", {EMBEDDINGS[0]: [ROWS - 2, 2]})
    (base / "config.json").write_text(json.dumps({"vocab_size": ROWS - 2}))
    assert "'t6' (6), 't7' (7)" in limits_of(config(), base)[0].found


def test_an_embedding_larger_than_the_tokenizer_is_fine(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", vocab_size=64)
    write_weights(base / "model.safetensors", {EMBEDDINGS[0]: [64, 2]})
    assert limits_of(config(), base) == []


def test_a_config_that_states_another_size_than_the_weights_have(tmp_path: Path) -> None:
    (limit,) = limits_of(config(), write_base(tmp_path / "base", vocab_size=ROWS + 1))
    assert limit.found == f"an embedding of {ROWS} rows and vocab_size {ROWS + 1} in config.json"


def test_a_multimodal_familys_sizes_are_those_of_its_text_model(tmp_path: Path) -> None:
    inner = {"vocab_size": ROWS, "max_position_embeddings": 300}
    base = write_base(tmp_path / "base", EMBEDDINGS[-1], vocab_size=None, text_config=inner)
    assert [limit.key for limit in limits_of(config(), base)] == ["serving.max_model_len"]


@pytest.mark.parametrize(
    ("keys", "positions"),
    [
        ({"max_position_embeddings": 512}, 512),
        ({"n_positions": 1024, "model_type": "gpt2"}, 1024),
        ({"max_position_embeddings": 514, "model_type": "roberta", "pad_token_id": 1}, 512),
        ({"max_position_embeddings": 514, "model_type": "xlm-roberta", "pad_token_id": 1}, 512),
        ({"max_position_embeddings": 514, "model_type": "camembert", "pad_token_id": 1}, 512),
        ({"max_position_embeddings": 512, "model_type": "deberta-v2", "position_biased_input": False}, None),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 2.0}}, 8192),
        ({"max_position_embeddings": 4096, "rope_parameters": {"rope_type": "dynamic", "factor": 4.0}}, 16384),
        ({"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 131072),
        ({"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, 131072),
        ({"max_position_embeddings": 131072, "rope_parameters": {"rope_theta": 1e4, "rope_type": "default"}}, 131072),
        ({}, None),
    ],
)
def test_positions_are_those_that_training_and_vllm_can_compute(keys: dict[str, Any], positions: int | None) -> None:
    assert positions_of(keys, {}) == positions


def test_an_encoders_tokenizer_may_bound_it(tmp_path: Path) -> None:
    absolute = {"max_position_embeddings": 512, "position_embedding_type": "absolute"}
    assert positions_of(absolute, {"model_max_length": 128}) == 128
    assert positions_of(absolute, {"model_max_length": 1e30}) == 512
    assert positions_of({"max_position_embeddings": 512}, {"model_max_length": 128}) == 512


def test_rows_and_serving_longer_than_the_positions_are_both_named(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", max_position_embeddings=256)
    found = limits_of(config(data={"max_tokens": 300}), base)
    assert [(limit.key, limit.found) for limit in found] == [
        ("data.max_tokens", "300"),
        ("serving.max_model_len", "512"),
    ]
    assert limits_of(config(serving={"max_model_len": 256}), base) == []


@pytest.mark.parametrize("heads", ["num_attention_heads", "n_head"])
@pytest.mark.parametrize(("split", "fits"), [(1, True), (3, True), (2, False), (8, False)])
def test_heads_that_cannot_be_split_evenly_are_named(tmp_path: Path, heads: str, split: int, fits: bool) -> None:
    sizes: dict[str, Any] = {heads: 9}
    base = write_base(tmp_path / "base", **sizes)
    found = limits_of(config(serving={"tensor_parallel_size": split}), base)
    expected = "a divisor of 9, the base's attention heads"
    assert found == ([] if fits else [("serving.tensor_parallel_size", str(split), expected)])


@pytest.mark.parametrize("cap", [None, 50.0])
@pytest.mark.parametrize("attention", ["auto", "eager", "sdpa"])
def test_an_attention_that_would_leave_out_a_cap_on_the_scores_is_named(
    tmp_path: Path, cap: float | None, attention: str
) -> None:
    base = write_base(tmp_path / "base", attn_logit_softcapping=cap)
    found = limits_of(config(train={"attention": attention}), base)
    assert [limit.key for limit in found] == (["train.attention"] if cap and attention == "sdpa" else [])


def test_what_is_not_here_has_no_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    absent = config().model_dump() | {"base": {"package": "no-such-weights"}}
    assert limits_here(RunConfig.model_validate(absent)) == []
