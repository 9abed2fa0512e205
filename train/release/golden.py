"""Golden prompts: the trainer's own answers, by transformers on the merged, unquantized model. Serving must agree with
them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from configs.run.config import RunConfig
from configs.task import Problem
from infra.served_messages import as_request
from infra.tokenizer import Tokenizer, read_tokenizer
from infra.vllm.answer import LIKELY, joined, read_tags
from train.release.generation import end_ids
from train.sources.source import Row


def write_golden(config: RunConfig, model: Any, tokenizer: Any, rows: list[Row], target: Path) -> None:
    """One JSON line a prompt; the first rows of the validation split, never of the test split."""
    lines = golden_lines(config, model, tokenizer, rows[: config.evaluate.parity.golden_prompts])
    target.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf8")


def golden_lines(config: RunConfig, model: Any, tokenizer: Any, rows: list[Row]) -> list[Row]:
    if config.task == "reward":
        return reward(model, tokenizer, rows)
    if config.task == "sequence-classification":
        return classify(model, tokenizer, rows, config.problem)
    if config.task == "token-classification":
        return tag(model, tokenizer, rows)
    return answer(model, tokenizer, rows, config.evaluate.max_new_tokens)


def classify(model: Any, tokenizer: Any, rows: list[Row], problem: Problem) -> list[Row]:
    """Label and probabilities, or the number of a regression, rounded to 6 digits."""
    import torch

    lines, texts = [], read_tokenizer(Path(tokenizer.name_or_path))
    for row in rows:
        text = texts.classified_text(row)
        with torch.inference_mode():
            logits = model(**tokenizer(text, return_tensors="pt").to(model.device)).logits[0].float()
        if problem == "regression":
            lines.append(
                {
                    "id": row["id"],
                    "text": text,
                    "answer": f"{float(logits[0]):.6g}",
                    "value": round(float(logits[0]), 6),
                }
            )
            continue
        probs = (torch.sigmoid(logits) if problem == "multi_label" else torch.softmax(logits, dim=-1)).tolist()
        named = {model.config.id2label[index]: round(value, 6) for index, value in enumerate(probs)}
        likely = joined([label for label, value in named.items() if value > LIKELY])
        lines.append(
            {
                "id": row["id"],
                "text": text,
                "answer": likely if problem == "multi_label" else max(named, key=named.__getitem__),
                "probs": named,
            }
        )
    return lines


def reward(model: Any, tokenizer: Any, rows: list[Row]) -> list[Row]:
    """The number of each conversation with its better answer, rounded to 6 digits."""
    import torch

    lines, ours = [], read_tokenizer(Path(tokenizer.name_or_path))
    for row in rows:
        ids = ours.ids(ours.chat.render(row["messages"], row.get("tools"))[0], special=False)
        with torch.inference_mode():
            value = float(model(input_ids=torch.tensor([ids], device=model.device)).logits[0, 0])
        asked: Row = {name: row[name] for name in ("messages", "tools") if name in row}
        lines.append({"id": row["id"], **asked, "answer": f"{value:.6g}", "value": round(value, 6)})
    return lines


def tag(model: Any, tokenizer: Any, rows: list[Row]) -> list[Row]:
    """The tag of each word and its probability; the tokens travel with them, so that whoever asks needs no
    tokenizer."""
    import torch

    lines, words = [], read_tokenizer(Path(tokenizer.name_or_path))
    for row in rows:
        ids, first = words.words(row["tokens"])
        with torch.inference_mode():
            inputs = torch.tensor([ids], device=model.device)
            probs = torch.softmax(model(input_ids=inputs).logits[0].float(), dim=-1)
        reply = {"data": [{"data": probs.tolist()}]}
        found = read_tags(reply, list(model.config.id2label.values()), {"input_ids": ids, "first_subwords": first}, 0.0)
        confidences = [round(value, 6) for value in found.confidences or []]
        lines.append(
            {
                "id": row["id"],
                "tokens": row["tokens"],
                "input_ids": ids,
                "first_subwords": first,
                "answer": found.text,
                "confidences": confidences,
            }
        )
    return lines


def answer(model: Any, tokenizer: Any, rows: list[Row], max_new_tokens: int) -> list[Row]:
    """Greedy text, its tokens up to the end's, and the natural log-probability of the first, in one left-padded
    batch."""
    import torch

    asked = [question(row) for row in rows]
    ours = read_tokenizer(Path(tokenizer.name_or_path))
    prompts = [prompt_ids(ours, row, one) for row, one in zip(rows, asked, strict=True)]
    batch = tokenizer.pad({"input_ids": prompts}, return_tensors="pt", padding_side="left").to(model.device)
    ends = end_ids(model, tokenizer)
    with torch.inference_mode():
        found = model.generate(
            **{name: batch[name] for name in ("input_ids", "attention_mask")},
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=ends,
            pad_token_id=tokenizer.pad_token_id,
            return_dict_in_generate=True,
            output_logits=True,
        )
    first = torch.log_softmax(found.logits[0].float(), dim=-1).max(dim=-1).values.tolist()
    answers = [up_to_end(ids, ends) for ids in found.sequences[:, batch["input_ids"].shape[1] :].tolist()]
    return [
        {
            "id": row["id"],
            **one,
            "answer": tokenizer.decode(ids, skip_special_tokens=True),
            "first_token_logprob": round(value, 6),
        }
        | {"prompt_ids": prompt, "answer_ids": ids}
        for row, one, prompt, ids, value in zip(rows, asked, prompts, answers, first, strict=True)
    ]


def up_to_end(ids: list[int], ends: list[int]) -> list[int]:
    """A batch's shorter answers are padded after their end token."""
    found = [index for index, token in enumerate(ids) if token in ends]
    return ids[: found[0] + 1] if found else ids


def question(row: Row) -> Row:
    """What is asked: the turns before the answer, the prompt, or the first half of a plain text's words."""
    if "messages" in row:
        return {"messages": [as_request(turn) for turn in row["messages"][:-1]]} | (
            {"tools": row["tools"]} if "tools" in row else {}
        )
    words = str(row.get("text", "")).split(" ")
    return {"prompt": row["prompt"] if "prompt" in row else " ".join(words[: (len(words) + 1) // 2])}


def prompt_ids(tokenizer: Tokenizer, row: Row, asked: Row) -> list[int]:
    """As vLLM makes them: chats by the template alone, prompts with the tokenizer's own special tokens."""
    if "messages" in row:
        return tokenizer.chat.prompt_ids(row["messages"][:-1], row.get("tools"))
    return tokenizer.ids(asked["prompt"])
