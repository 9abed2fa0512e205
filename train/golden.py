"""Golden prompts: the trainer's own answers, by transformers on the merged, unquantized model. Serving must agree with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from configs.schema import RunConfig
from train.sources import Row


def write_golden(config: RunConfig, model: Any, tokenizer: Any, rows: list[Row], target: Path) -> None:
    """One JSON line a prompt; the first rows of the validation split, never of the test split."""
    chosen = rows[: config.evaluate.parity.golden_prompts]
    lines = classify(model, tokenizer, chosen) if config.task == "sequence-classification" else answer(model, tokenizer, chosen, config.evaluate.max_new_tokens)
    target.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf8")


def classify(model: Any, tokenizer: Any, rows: list[Row]) -> list[dict[str, Any]]:
    """Label and softmax probabilities, rounded to 6 digits."""
    import torch

    lines = []
    for row in rows:
        with torch.inference_mode():
            probs = torch.softmax(model(**tokenizer(row["text"], return_tensors="pt")).logits[0].float(), dim=-1).tolist()
        named = {model.config.id2label[index]: round(value, 6) for index, value in enumerate(probs)}
        lines.append({"id": row["id"], "text": row["text"], "answer": max(named, key=named.__getitem__), "probs": named})
    return lines


def answer(model: Any, tokenizer: Any, rows: list[Row], max_new_tokens: int) -> list[dict[str, Any]]:
    """Greedy text and the natural log-probability of its first token, in one left-padded batch."""
    import torch

    prompts = [tokenizer.apply_chat_template(row["messages"][:-1], add_generation_prompt=True, tokenize=False) for row in rows]
    batch = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
    with torch.inference_mode():
        found = model.generate(**batch, max_new_tokens=max_new_tokens, do_sample=False, return_dict_in_generate=True, output_logits=True)
    first = torch.log_softmax(found.logits[0].float(), dim=-1).max(dim=-1).values.tolist()
    texts = tokenizer.batch_decode(found.sequences[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return [
        {"id": row["id"], "messages": row["messages"][:-1], "answer": text, "first_token_logprob": round(value, 6)}
        for row, text, value in zip(rows, texts, first, strict=True)
    ]
