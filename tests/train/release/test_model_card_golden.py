"""The model card says only facts, and golden answers are the model's own."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from configs.run.config import RunConfig
from infra.tokenizer import load_tokenizer
from train.release.golden import write_golden
from train.release.model_card import write_card

pytestmark = pytest.mark.unit
CARD: Any = {
    "source": "somewhere 1.0",
    "licence": "Apache-2.0",
    "corrupt": "none",
    "fingerprint": "sha256:ab",
    "labels": ["bad", "good"],
    "splits": {"train": {"rows": 30}, "test": {"rows": 9}},
    "left_out": {"duplicate": 2, "too_long": 0},
}
TRAINING: Any = {
    "steps": 7,
    "dtype": "float32",
    "best_step": 5,
    "best_validation_loss": 0.12345,
    "seconds": 3.5,
    "tokens_per_second": 80.0,
}
FACTS: Any = {"scheme": "int8", "algorithm": "rtn", "size_bytes": 1000, "parent_size_bytes": 4000}


def config(task: str, **more: Any) -> RunConfig:
    source = "bfcl" if task == "causal-lm" else "sentiment"
    return RunConfig.model_validate(
        {
            "name": "mine",
            "task": task,
            "base": {"path": "b"},
            "data": {"source": source},
            "train": {"max_steps": 7, "batch_size": 4},
            "gate": "g",
        }
        | more
    )


def card_of(
    settings: RunConfig,
    card: Any = CARD,
    training: Any = TRAINING,
    facts: Any = None,
) -> str:
    return write_card(settings, card, training, {"name": "tiny", "version": "2"}, facts or FACTS)


def test_the_card_states_base_data_training_and_size() -> None:
    text = card_of(config("sequence-classification"))
    facts = ("# mine", "`tiny` (2)", "INT8", "bad, good", "30 train, 9 test", "2 duplicate.", "7 steps of 4 rows")
    for fact in (*facts, "step 5, validation loss 0.1235", "1,000 bytes", "4,000 before"):
        assert fact in text
    assert "too long" not in text, "what did not happen is not told"


def test_equal_facts_give_an_equal_card_however_long_it_took() -> None:
    settings = config("causal-lm")
    assert card_of(settings) == card_of(settings, training=TRAINING | {"seconds": 99.0, "tokens_per_second": 1.0})


def test_a_corrupted_release_says_so() -> None:
    settings = config("causal-lm", quantize={"scheme": "none"})
    text = card_of(settings, CARD | {"corrupt": "shuffle_answers", "left_out": {}}, facts=FACTS | {"scheme": "none"})
    assert "Corrupted on purpose" in text and "Left out: none" in text
    assert "INT8" not in text and "/v1/chat/completions" in text


@pytest.mark.parametrize(
    ("train", "line"),
    [
        ({"method": "full"}, "- Every weight."),
        ({"method": "qlora"}, "- QLoRA over NF4, rank 16, alpha 32, dropout 0, on all-linear."),
        (
            {"lora": {"dora": True, "loraplus_ratio": 16}},
            "- LoRA rank 16, alpha 32, dropout 0, on all-linear, DoRA, LoRA+ ratio 16.",
        ),
    ],
)
def test_the_card_names_the_method(train: dict[str, Any], line: str) -> None:
    assert line in card_of(config("causal-lm", train={"max_steps": 7} | train)).splitlines()


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        ("multi_label", "each class by itself, likely above 0.5; classes by index: bad, good"),
        ("regression", "the one number itself"),
    ],
)
def test_the_card_says_how_to_read_an_answer(problem: str, words: str) -> None:
    settings = config("sequence-classification", problem=problem, data={"source": "files", "files": ["rows.jsonl"]})
    assert words in card_of(settings)
    tagger = config("token-classification", data={"source": "ner_finance"})
    assert "POST `/pooling`" in card_of(tagger)


def test_the_card_tells_how_the_weights_were_compressed_and_on_what_they_were_calibrated() -> None:
    pruned = {"method": "wanda", "structure": "2:4", "measured_sparsity": 0.5, "recovery_steps": 20}
    seen = {"split": "train", "rows": 64, "seed": 3, "fingerprint": "sha256:cd"}
    facts = FACTS | {"scheme": "w4a16", "algorithm": "gptq", "group_size": 64, "prune": pruned, "calibration": seen}
    text = card_of(
        config("causal-lm", quantize={"scheme": "w4a16", "algorithm": "gptq", "compare_parent": True}), facts=facts
    )
    for fact in (
        "groups of 64",
        "GPTQ",
        "Wanda",
        "2:4: 50.0% zeros",
        "20 steps",
        "64 rows of the train split (seed 3)",
        "`eval/card.md`",
    ):
        assert fact in text
    assert "eval/card.md" not in card_of(config("causal-lm")) and "SmoothQuant" not in text
    assert "SmoothQuant (arXiv:2211.10438) of strength 0.5" in card_of(
        config("causal-lm"), facts=FACTS | {"smoothquant": 0.5}
    )


def test_golden_labels_come_with_probabilities_that_sum_to_one(tiny_bert: Path, tmp_path: Path) -> None:
    from train.model.heads import load_classifier

    tokenizer = load_tokenizer(tiny_bert)

    rows = [{"id": str(index), "text": f"good film {index}", "label": "good"} for index in range(5)]
    settings = config("sequence-classification", evaluate={"parity": {"golden_prompts": 3}})
    write_golden(
        settings, load_classifier(tiny_bert, ["bad", "good"]).eval(), tokenizer, rows, tmp_path / "golden.jsonl"
    )
    lines = [json.loads(line) for line in (tmp_path / "golden.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["0", "1", "2"]
    for line in lines:
        assert sum(line["probs"].values()) == pytest.approx(1, abs=1e-5)
        assert line["answer"] == max(line["probs"], key=line["probs"].get)


def test_golden_text_does_not_depend_on_its_neighbours_padding(tiny_gpt: Path, tmp_path: Path) -> None:
    """Answered in one padded batch as if each were asked alone: serving asks them alone."""
    import torch
    from transformers import AutoModelForCausalLM

    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(tiny_gpt, dtype=torch.float32).eval(),
        load_tokenizer(tiny_gpt),
    )
    rows = [
        {
            "id": str(size),
            "messages": [{"role": "user", "content": "film " * size}, {"role": "assistant", "content": "no"}],
        }
        for size in (1, 9, 3)
    ]
    settings = config("causal-lm", evaluate={"max_new_tokens": 5, "parity": {"golden_prompts": 3}})
    write_golden(settings, model, tokenizer, rows, tmp_path / "all.jsonl")
    together = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    for row, line in zip(rows, together, strict=True):
        write_golden(settings, model, tokenizer, [row], tmp_path / "one.jsonl")
        alone = json.loads((tmp_path / "one.jsonl").read_text())
        assert line["answer"] == alone["answer"] == tokenizer.decode(line["answer_ids"], skip_special_tokens=True)
        assert (line["prompt_ids"], line["answer_ids"]) == (alone["prompt_ids"], alone["answer_ids"])
        assert line["first_token_logprob"] == pytest.approx(alone["first_token_logprob"], abs=1e-4)
        assert math.isfinite(line["first_token_logprob"]) and line["first_token_logprob"] <= 0
        assert line["messages"] == row["messages"][:-1], "the gold answer does not travel"
