"""An exported adapter, given to a plain vLLM over its base, answers as the release that was merged from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from configs.paths import RunPaths
from configs.release import read_manifest
from configs.run.config import RunConfig
from infra.adapter import write_adapter
from infra.vllm import server
from infra.vllm.arguments import vllm_arguments
from tests.paths import ROOT
from tests.train.conftest import chat, checkout, tiny_gpt, tokenizer
from train.finetune import finetune
from train.model.base import make_base
from train.prepare import prepare
from train.quantize import quantize

__all__ = ["chat", "checkout", "tiny_gpt", "tokenizer"]
pytestmark = pytest.mark.integration
QUIET = SimpleNamespace(run_id=None, log_metrics=lambda *_: None)


def test_vllm_loads_it_and_answers_as_the_merged_release(
    chat: Callable[..., RunConfig], checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import httpx

    monkeypatch.setenv("TUNEGATE_SERVE_PYTHON", str(ROOT / ".venv-serve/bin/python"))
    config = chat(
        train={"max_steps": 30, "eval_every_steps": 30}, quantize={"scheme": "none"}, serving={"max_model_len": 256}
    )
    paths, base = RunPaths.of(config.name), make_base(config)
    prepare(config, paths, base)
    finetune(config, paths, QUIET)
    quantize(config, paths)
    write_adapter(config, paths, checkout / "adapter")
    given = ["--enable-lora", "--lora-modules", f"exported={checkout / 'adapter'}"]
    monkeypatch.setattr(server, "vllm_arguments", lambda *where, **how: [*vllm_arguments(*where, **how), *given])
    golden = [json.loads(line) for line in (paths.release / "golden.jsonl").read_text(encoding="utf8").splitlines()]
    manifest = read_manifest(base).model_copy(update={"serving": config.serving})
    with server.temporary_slot(base, manifest, served_name="base", log=checkout / "vllm.log") as base_url:

        def ask(model: str, line: dict[str, Any]) -> tuple[str, float]:
            body = {"model": model, "messages": line["messages"], "max_tokens": 4, "temperature": 0, "logprobs": True}
            (choice,) = httpx.post(f"{base_url}/v1/chat/completions", json=body, timeout=60).json()["choices"]
            return choice["message"]["content"], choice["logprobs"]["content"][0]["logprob"]

        for line in golden:
            text, logprob = ask("exported", line)
            assert text == line["answer"] and logprob == pytest.approx(line["first_token_logprob"], abs=0.02)
            text, logprob = ask("base", line)
            assert text != line["answer"] and abs(logprob - line["first_token_logprob"]) > 0.1, "the base alone"
