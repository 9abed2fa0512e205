"""Rows with tools through the real vLLM: what a server reads is, token for token, what `prepare` stored."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest

from configs.paths import RunPaths
from configs.release import read_manifest
from configs.run.config import RunConfig
from eval.evaluate import evaluate
from eval.measure.rows import read_rows
from infra.tokenizer import split_answer
from infra.vllm.server import temporary_slot
from tests.support.prepared_rows import KINDS, Row, preference, with_tokens
from tests.train.conftest import CHAT_TEMPLATE, chat, checkout, tiny_gpt, tokenizer
from tests.train.tasks import test_tasks_served
from tests.train.tasks.test_tasks_served import ask_all, released
from train.data.prepared import read_tokens
from train.model.base import make_base
from train.prepare import prepare
from train.tasks.reward import tail_of

__all__ = ["chat", "checkout", "tiny_gpt", "tokenizer"]
pytestmark = pytest.mark.integration
serve_environment = test_tasks_served.serve_environment
TEMPLATE = "{{ tools | tojson if tools else '' }}" + CHAT_TEMPLATE.replace(
    "{{ message['content'] }}",
    "{{ message['content'] or '' }}{{ message.tool_calls | tojson if message.tool_calls }}"
    "{{ message.reasoning or '' }}{{ message.reasoning_content or '' }}",
)
TOOL = {"type": "function", "function": {"parameters": {"type": "object"}, "name": "rain", "strict": True}}
CALL = {"id": "1", "type": "function", "function": {"name": "rain", "arguments": {"city": "Köln"}}}
CHATS: list[Row] = [
    {"tools": [TOOL], "messages": [{"role": "user", "content": "film?"}, {"role": "assistant", "content": "good"}]},
    {
        "tools": [TOOL, {"type": "function", "function": {"name": "snow", "description": "a film"}}],
        "messages": [
            {"role": "user", "content": "rain?"},
            {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning_content": "Is it wet?"},
            {"role": "tool", "content": "dry", "tool_call_id": "1"},
            {"role": "assistant", "content": "no"},
        ],
    },
    {"messages": [{"role": "user", "content": "bad?"}, {"role": "assistant", "content": "no"}]},
]


def knows_tools(folder: Path) -> None:
    """A base that writes them, in as many tokens as they take."""
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf8")
    found = json.loads((folder / "config.json").read_text(encoding="utf8"))
    (folder / "config.json").write_text(json.dumps(found | {"max_position_embeddings": 1024}), encoding="utf8")


def test_a_chats_tools_and_calls_are_read_as_prepare_stored_them(
    chat: Callable[..., RunConfig], checkout: Path
) -> None:
    knows_tools(checkout / "tiny-gpt")
    rows = [{**CHATS[index % 3], "id": str(index)} for index in range(36)]
    for index, row in enumerate(rows):
        row["messages"] = [{"role": "system", "content": f"film {index}"}, *row["messages"]]
    (checkout / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf8")
    config = chat(data={"max_tokens": 500, "lint": {"leakage": "keep"}})
    paths, base = RunPaths.of(config.name), make_base(config)
    prepare(config, paths, base)
    stored = read_tokens(paths, "test")
    asked = list(read_rows(paths.data / "test.parquet"))
    with temporary_slot(base, read_manifest(base), served_name="m", log=checkout / "vllm.log") as base_url:
        answers = asyncio.run(ask_all(base_url, read_manifest(base), asked))
    assert {len(row.get("tools", [])) for row in asked} == {0, 1, 2}
    for row, tokens, answer in zip(asked, stored, answers, strict=True):
        prompt, _ = split_answer(tokens["input_ids"], tokens["loss_mask"])
        assert answer.prompt_tokens == len(prompt), row


def judged_with_tools(index: int) -> Row:
    row = preference(index)
    return row | {"tools": CHATS[1]["tools"], "messages": [*CHATS[1]["messages"][:3], *row["messages"]]}


def test_a_reward_model_reads_tools_as_it_was_trained(
    chat: Callable[..., RunConfig], checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    knows_tools(checkout / "tiny-gpt")
    task, problem, shape, *_ = KINDS["rewards"]
    monkeypatch.setitem(KINDS, "rewards", (task, problem, shape, judged_with_tools, []))
    settings: dict[str, Any] = {"train": {"max_steps": 30, "eval_every_steps": 30}, "serving": {"max_model_len": 512}}
    config, paths = released(chat(**settings), "rewards")
    record = evaluate(config, paths)
    parity = record["parity"]
    assert parity and parity["agreement"] == 1 and (parity["difference"] or 0) < 0.1, parity
    assert record["metrics"]["preference_accuracy"] == 1
    predictions = pandas.read_parquet(paths.evaluation / "predictions.parquet")
    rows = list(read_rows(paths.data / "test.parquet"))
    trained, tail = with_tokens(Path("tiny-gpt"), "preference", rows), tail_of(Path("tiny-gpt"))
    wanted = [len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(tail) for row in trained]
    assert predictions["prompt_tokens"].tolist() == wanted
