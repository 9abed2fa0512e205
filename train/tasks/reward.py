"""Reward models: one number an answer, larger for the better one of two (Bradley-Terry; Ouyang et al. 2022,
arXiv:2203.02155, section 3.5)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from configs.errors import InputError
from configs.run.config import RunConfig
from infra.tokenizer import read_tokenizer
from train.batches.dataset import EncodedRow, derive
from train.model.adapter import use_loraplus_optimizer
from train.tasks.trl_arguments import model_arguments

PROBE = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


def build_reward_trainer(config: RunConfig, base: Path, train_rows: Any, validation_rows: Any, **arguments: Any) -> Any:
    """A TRL RewardTrainer over whole conversations, each as the chat template ends it, for that is what `/classify` is
    sent. `arguments`: of TrainingArguments."""
    from trl import RewardConfig, RewardTrainer  # type: ignore[attr-defined]  # lazy exports

    model, tail, last = model_arguments(config, base), tail_of(base), last_token(base)
    tokenizer = model["processing_class"]
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(padding_beside(tokenizer, last))
    rows, validation = (derive(part, partial(whole_answers, tail)) for part in (train_rows, validation_rows))
    trainer = RewardTrainer(
        args=RewardConfig(**arguments, remove_unused_columns=False, max_length=None),
        train_dataset=rows,
        eval_dataset=validation,
        **model,
    )
    return use_loraplus_optimizer(trainer, config)


def whole_answers(tail: list[int], row: EncodedRow) -> list[EncodedRow]:
    """Both conversations from their first token to their last."""
    both = {name: row["prompt_ids"] + row[name] + tail for name in ("chosen_ids", "rejected_ids")}
    return [both | {"length": max(map(len, both.values()))}]


def tail_of(base: Path) -> list[int]:
    """What the chat template writes after an answer's targets. Raises InputError where it writes a conversation
    otherwise than an answer after its prompt."""
    tokenizer = read_tokenizer(base)
    ids, mask = tokenizer.conversation({"messages": PROBE}, "last")
    whole = rendered(base, PROBE)
    if whole != ids:
        raise InputError(
            f"{base}: the chat template does not write an answer as its generation prompt begins one: found "
            f"{tokenizer.fast.decode(whole, skip_special_tokens=False)!r}, expected "
            f"{tokenizer.fast.decode(ids, skip_special_tokens=False)!r}",
            hint="give base another chat template",
        )
    return ids[len(ids) - mask[::-1].index(True) :]


def last_token(base: Path) -> int:
    """The one at which the number is read."""
    return rendered(base, PROBE)[-1]


def rendered(base: Path, messages: list[dict[str, str]]) -> list[int]:
    """As a server renders a conversation that nothing is to be added to."""
    tokenizer = read_tokenizer(base)
    return tokenizer.ids(tokenizer.chat.render(messages)[0], special=False)


def padding_beside(tokenizer: Any, last: int) -> int:
    """A padding token that no conversation ends with: transformers reads the number at the last token that is not one
    (transformers/modeling_layers.py, GenericForSequenceClassification)."""
    special = (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id)
    return next(token for token in (*special, 0, 1) if token is not None and token != last)
