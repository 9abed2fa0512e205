"""Where a release's answers end, and that nothing of the base bends a greedy one: as golden prompts and vLLM see it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.tokenizer import load_tokenizer
from tests.support.tiny_families import DECODERS, make_family, rows_of
from tests.train.conftest import make_config
from train.model.heads import new_model
from train.release.generation import end_ids, settle_generation, taken_out
from train.release.golden import answer

pytestmark = pytest.mark.unit
ENDS = {
    "llama3": ["<|end_of_text|>", "<|eot_id|>"],
    "mistral": ["</s>"],
    "qwen2": ["<|endoftext|>", "<|im_end|>"],
    "gemma2": ["<eos>", "<end_of_turn>"],
    "phi3": ["<|endoftext|>", "<|end|>"],
    "gpt2": ["<|endoftext|>"],
    "olmo": ["<|endoftext|>"],  # its tokenizer has no <|im_end|>: the template writes it as text
    "smollm2": ["<|im_end|>"],
}


def opened(name: str, folder: Path) -> tuple[Any, Any]:
    make_family(name, folder)
    model = new_model(make_config("tiny", "causal-lm", "base", {"quantize": {"scheme": "none"}}), folder, [])
    return model.eval(), load_tokenizer(folder)


@pytest.mark.parametrize("name", ENDS)
def test_answers_end_at_the_end_of_a_turn_and_where_the_base_ends(name: str, tmp_path: Path) -> None:
    model, tokenizer = opened(name, tmp_path / "base")
    settle_generation(model, tokenizer)
    model.save_pretrained(tmp_path / "release")
    from transformers import GenerationConfig

    saved = GenerationConfig.from_pretrained(tmp_path / "release")
    assert saved.eos_token_id == sorted(tokenizer.convert_tokens_to_ids(ENDS[name]))
    assert saved.pad_token_id == tokenizer.pad_token_id is not None


def test_what_bends_greedy_answers_is_taken_out_and_what_draws_stays(tmp_path: Path) -> None:
    model, tokenizer = opened("qwen2", tmp_path / "base")
    assert taken_out(tmp_path / "base") == {"repetition_penalty": 1.3, "max_new_tokens": 3}
    settle_generation(model, tokenizer)
    model.save_pretrained(tmp_path / "release")
    assert taken_out(tmp_path / "release") == {}
    assert model.generation_config.top_k == 20 and model.generation_config.do_sample


@pytest.mark.parametrize("name", [name for name in DECODERS if name != "gemma3-images"])
def test_a_golden_answer_is_the_greedy_one_token_by_token(name: str, tmp_path: Path) -> None:
    """Of a left-padded batch, whatever pads it, and with no penalty of the base's."""
    import torch

    model, tokenizer = opened(name, tmp_path / "base")
    settle_generation(model, tokenizer)
    rows = rows_of(name, "causal-lm", 12)
    asked = [{"id": str(index), **row} for index, row in enumerate([rows[1], rows[11]])]
    for line in answer(model, tokenizer, asked, 4):
        ids, ends = list(line["prompt_ids"]), end_ids(model, tokenizer)
        for token in line["answer_ids"]:
            with torch.inference_mode():
                assert int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()) == token
            ids.append(token)
        assert len(line["answer_ids"]) == 4 or line["answer_ids"][-1] in ends
