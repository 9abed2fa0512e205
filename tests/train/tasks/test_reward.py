"""A reward model reads its number at the end of a whole conversation, and learns which of two answers is better."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from configs.errors import InputError
from configs.paths import RunPaths
from configs.run.config import RunConfig
from tests.support.prepared_rows import preference, with_tokens
from tests.train.conftest import CHAT_TEMPLATE
from train.loop.arguments import schedule_arguments, trainer_arguments
from train.tasks.reward import build_reward_trainer, last_token, padding_beside, rendered, tail_of, whole_answers

pytestmark = pytest.mark.unit
PAIR = preference(0)
WITHOUT_LINE_BREAK = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKED = (  # the targets that it marks end before its line break
    "{% for message in messages %}{% if message['role'] == 'assistant' %}<|im_start|>assistant\n{% generation %}"
    "{{ message['content'] }}<|im_end|>{% endgeneration %}\n{% else %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING = WITHOUT_LINE_BREAK.replace("assistant\n{% endif", "assistant\n<think>{% endif")


@pytest.fixture
def base_with(tokenizer: Any, tmp_path: Path) -> Callable[..., Path]:
    """A folder with a tokenizer of another template or padding token."""
    import copy

    def write(template: str, pad: str | None = "<|endoftext|>") -> Path:
        changed = copy.deepcopy(tokenizer)
        changed.chat_template, changed.pad_token = template, pad
        changed.save_pretrained(tmp_path)
        return tmp_path

    return write


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, WITHOUT_LINE_BREAK, MARKED])
def test_both_answers_are_whole_conversations_as_a_server_renders_them(
    base_with: Callable[..., Path], template: str
) -> None:
    base = base_with(template)
    (tokens,) = with_tokens(base, "preference", [PAIR])
    (found,) = whole_answers(tail_of(base), tokens)
    turns = PAIR["messages"]
    assert found["chosen_ids"] == rendered(base, turns)
    assert found["rejected_ids"] == rendered(base, [turns[0], {"role": "assistant", "content": PAIR["rejected"]}])
    assert found["length"] == len(found["rejected_ids"]), "the longer one"


def test_a_template_whose_answers_begin_otherwise_than_its_prompt_ends_is_refused(
    base_with: Callable[..., Path],
) -> None:
    with pytest.raises(InputError, match="does not write an answer as its generation prompt begins one"):
        tail_of(base_with(THINKING))


@pytest.mark.parametrize("pad", [None, "<|im_end|>", "<|endoftext|>"])
def test_no_conversation_ends_with_the_padding(base_with: Callable[..., Path], pad: str | None) -> None:
    from infra.tokenizer import load_tokenizer

    base = base_with(WITHOUT_LINE_BREAK, pad)
    one, last = load_tokenizer(base), last_token(base)
    assert one.convert_ids_to_tokens(last) == "<|im_end|>"
    padding = padding_beside(one, last)
    assert padding != last
    if pad == "<|endoftext|>":
        assert padding == one.pad_token_id, "a padding token of its own stays"


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_better_answer_gets_the_larger_number_whatever_stands_beside_it(
    chat: Callable[..., RunConfig], method: str
) -> None:
    import torch
    from datasets import Dataset

    section = {"max_steps": 8, "method": method} | (
        {"lora": {"rank": 4, "alpha": 8}} if method == "lora" else {"lora": {}}
    )
    config = chat(task="reward", train=section)
    rows = Dataset.from_list(
        with_tokens(Path("tiny-gpt"), "preference", [{"id": str(index), **preference(index)} for index in range(12)])
    )
    arguments = trainer_arguments(config, RunPaths.of("x"), 4) | schedule_arguments(config.train, 8)
    trainer = build_reward_trainer(config, Path("tiny-gpt"), rows, rows.select(range(5)), **arguments)
    trainer.train()
    logged = [line for line in trainer.state.log_history if "eval_loss" in line]
    assert logged[-1]["eval_loss"] < logged[0]["eval_loss"] and logged[-1]["eval_accuracy"] == 1
    model = trainer.model.eval()
    batch = trainer.data_collator([trainer.train_dataset[0], trainer.train_dataset[1] | {"rejected_ids": [7] * 60}])
    with torch.inference_mode():
        together = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, 0]
        alone = model(input_ids=torch.tensor([trainer.train_dataset[0]["chosen_ids"]])).logits[0, 0]
    assert float(together[0]) == pytest.approx(float(alone), abs=1e-5), "padding is not looked at"
