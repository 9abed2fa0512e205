"""Reward models: one number an answer, larger for the better one of two (Bradley-Terry; Ouyang et al. 2022,
arXiv:2203.02155, section 3.5)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from configs.errors import InputError
from configs.run.config import RunConfig
from train.batches.dataset import EncodedRow
from train.model.adapter import use_loraplus_optimizer
from train.tasks.preference import model_arguments, pair_arguments

PROBE = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


def build_reward_trainer(config: RunConfig, base: Path, train_rows: Any, validation_rows: Any, **arguments: Any) -> Any:
    """A TRL RewardTrainer over whole conversations, each as the chat template ends it, for that is what `/classify` is
    sent. `arguments`: of TrainingArguments."""
    from trl import RewardConfig, RewardTrainer  # type: ignore[attr-defined]  # lazy exports

    model, rows = model_arguments(config, base), pair_arguments(base, train_rows, validation_rows)
    tokenizer = model["processing_class"]
    tail = tail_of(tokenizer, base)
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(padding_beside(tokenizer, last_token(tokenizer)))
    whole = {
        name: split.map(lambda row: whole_answers(row, tail), remove_columns=["prompt_ids"], load_from_cache_file=False)
        for name, split in rows.items()
    }
    trainer = RewardTrainer(
        args=RewardConfig(**arguments, remove_unused_columns=False, max_length=None),
        **model,
        **whole,
    )
    return use_loraplus_optimizer(trainer, config)


def whole_answers(row: EncodedRow, tail: list[int]) -> EncodedRow:
    """Both conversations from their first token to their last."""
    return {name: row["prompt_ids"] + row[name] + tail for name in ("chosen_ids", "rejected_ids")}


def tail_of(tokenizer: Any, base: Path) -> list[int]:
    """What the chat template writes after the end token of an answer: nothing, or a line break. Raises InputError where
    it writes an answer otherwise than after the prompt that serving sends."""
    from infra.tokenizer import encode_turns

    prompt, answer = encode_turns(tokenizer, PROBE[:-1], PROBE[-1]["content"])
    whole = rendered(tokenizer, PROBE)
    if whole[: len(prompt) + len(answer)] != prompt + answer:
        raise InputError(
            f"{base}: the chat template does not write an answer as its generation prompt begins one: found "
            f"{tokenizer.decode(whole)!r}, expected it to begin with {tokenizer.decode(prompt + answer)!r}",
            hint="give base another chat template",
        )
    return whole[len(prompt) + len(answer) :]


def last_token(tokenizer: Any) -> int:
    """The one at which the number is read."""
    return rendered(tokenizer, PROBE)[-1]


def rendered(tokenizer: Any, messages: list[dict[str, str]]) -> list[int]:
    ids: list[int] = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
    return ids


def padding_beside(tokenizer: Any, last: int) -> int:
    """A padding token that no conversation ends with: transformers reads the number at the last token that is not one
    (transformers/modeling_layers.py, GenericForSequenceClassification)."""
    special = (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id)
    return next(token for token in (*special, 0, 1) if token is not None and token != last)
