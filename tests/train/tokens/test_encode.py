"""What each shape of row becomes: ids, targets, and a length that is what training will see."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs.run.config import RunConfig
from infra.tokenizer import Tokenizer
from tests.support.prepared_rows import rules_for
from train.rows.shape import Shape
from train.sources.source import Row
from train.tokens.encode import encode, length_of, prompt_length, rules_of

pytestmark = pytest.mark.unit
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
QUIET = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture(scope="session")
def ours(tiny_gpt: Path) -> Tokenizer:
    return Tokenizer(tiny_gpt)


@QUIET
@given(TEXT, TEXT)
def test_texts_and_completions_are_what_transformers_makes_and_end(
    ours: Tokenizer, tokenizer: Any, prompt: str, answer: str
) -> None:
    asked, answered = (tokenizer(part)["input_ids"] for part in (prompt, answer))
    end = [tokenizer.eos_token_id]
    label = encode(ours, rules_for("label", ours.folder), {"text": prompt})
    assert label == {"input_ids": asked} and prompt_length(label) == 0
    text = encode(ours, rules_for("text", ours.folder), {"text": prompt})
    assert text == {"input_ids": asked + end, "loss_mask": [True] * (len(asked) + 1)}
    found = encode(ours, rules_for("completion", ours.folder), {"prompt": prompt, "completion": answer})
    assert found["input_ids"] == asked + answered + end
    assert found["loss_mask"] == [False] * len(asked) + [True] * (len(answered) + 1)
    assert (length_of(found), prompt_length(found)) == (len(asked) + len(answered) + 1, len(asked))


@QUIET
@given(TEXT, TEXT, TEXT)
def test_both_answers_of_a_pair_follow_one_prompt_and_the_longer_counts(
    ours: Tokenizer, question: str, good: str, bad: str
) -> None:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": good}]
    pair = encode(ours, rules_for("preference", ours.folder), {"messages": messages, "rejected": bad})
    other = [messages[0], {"role": "assistant", "content": bad}]
    for name, turns in (("chosen_ids", messages), ("rejected_ids", other)):
        chat = encode(ours, rules_for("chat", ours.folder), {"messages": turns})
        assert pair["prompt_ids"] + pair[name] == chat["input_ids"]
    assert length_of(pair) == len(pair["prompt_ids"]) + max(len(pair["chosen_ids"]), len(pair["rejected_ids"]))


@pytest.mark.parametrize("shape", ["preference", "unpaired"])
def test_an_answer_that_is_compared_counts_whatever_its_weight(ours: Tokenizer, shape: Shape) -> None:
    """`train` false says of a turn that it is not imitated; a judged answer is not."""
    messages: list[Row] = [{"role": role, "content": role} for role in ("user", "assistant") * 2]
    plain = {"messages": messages, "rejected": "bad", "desirable": True}
    weighed = plain | {"messages": [*messages[:-1], messages[-1] | {"train": False}]}
    rules = rules_for(shape, ours.folder)
    assert encode(ours, rules, weighed) == encode(ours, rules, plain)


def test_an_answer_is_rewarded_after_all_turns_before_it_whatever_is_learnt(ours: Tokenizer) -> None:
    messages: list[Row] = [{"role": role, "content": role} for role in ("user", "assistant") * 2]
    row = {"messages": [*messages[:-1], messages[-1] | {"train": False}]}
    of_task = {task: rules_of(run_of(task), ours.folder)("chat") for task in ("grpo", "causal-lm")}
    prompts = {task: prompt_length(encode(ours, rules, row)) for task, rules in of_task.items()}
    assert prompts["grpo"] == len(ours.chat.prompt_ids(messages[:-1])) > prompts["causal-lm"]


def run_of(task: str) -> RunConfig:
    reward = {"reward": [{"metric": "exact_match"}], "batch_size": 8} if task == "grpo" else {}
    data = {"source": "files", "files": ["rows.jsonl"]}
    keys = {"name": "x", "task": task, "base": {"path": "b"}, "data": data, "gate": "g"}
    return RunConfig.model_validate(keys | {"train": {"max_steps": 1} | reward})


def test_a_tagged_row_says_where_its_words_begin(ours: Tokenizer) -> None:
    found = encode(ours, rules_for("tags", ours.folder), {"tokens": ["good", "film"], "tags": ["O", "O"]})
    assert found["first_subwords"][0] == 0 and len(found["first_subwords"]) == 2
    assert found["input_ids"] == ours.ids("good film")


def test_neither_check_nor_prepare_of_rows_loads_torch() -> None:
    code = "import sys, train.check_data, train.prepare, tokenizers, datasketch, pyarrow.parquet, fsspec; "
    code += "import transformers.utils.chat_template_utils; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
