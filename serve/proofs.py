"""What a slot must show before traffic reaches it. Each proof returns its facts, or raises RefusedError with the reason."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from configs.deploy import DeployConfig
from configs.errors import RefusedError
from configs.release import Manifest
from configs.verdict import Verdict
from infra.endpoint import ask, check_parity
from infra.slot import SlotProcess, wait_healthy
from serve.loadtest import run_load_test

Judge = Callable[[str, dict[str, float]], Verdict]
WARM_REQUESTS = 4


def prove(proof: str, process: SlotProcess, release: Path, manifest: Manifest, config: DeployConfig, judge: Judge | None) -> dict[str, Any]:
    """`proof` is one of serve.record.PROOF; asked straight at the slot, never through the door."""
    base_url = f"http://127.0.0.1:{process.port}"
    if proof == "healthy":
        wait_healthy(process, config.start_timeout_seconds)
        return {}
    if proof == "warm":
        return {"answers": len(ask_golden(base_url, release, manifest, config, WARM_REQUESTS))}
    if proof == "smoke":
        # /health says 200 while generation is broken: only a real answer is proof of life.
        (answer,) = ask_golden(base_url, release, manifest, config, 1)
        if not answer:
            raise RefusedError(f"{manifest.reference}: a real request got an empty answer", hint=f"less {process.log}")
        return {"answer": answer[:120]}
    if proof == "parity":
        parity = check_parity(base_url, config.model, release, manifest)
        if not parity.passed:
            raise RefusedError(
                f"{manifest.reference}: served answers differ from the trainer's own: {parity.agreement:.0%} agree, difference {parity.difference:.3g}",
                hint="tunegate evaluate CONFIG",
            )
        return asdict(parity)
    return load(base_url, process, release, manifest, config, judge)


def ask_golden(base_url: str, release: Path, manifest: Manifest, config: DeployConfig, count: int) -> list[str]:
    """The answers' texts (a classifier's labels) to the first `count` golden prompts."""
    lines = [json.loads(line) for line in (release / "golden.jsonl").read_text(encoding="utf8").splitlines()[:count]]

    async def all_of_them() -> list[str]:
        import httpx

        async with httpx.AsyncClient() as client:
            answers = await asyncio.gather(*(ask(client, base_url, config.model, manifest, line, max_new_tokens=config.load_test.max_tokens) for line in lines))
            return [answer.label or answer.text for answer in answers]

    return asyncio.run(all_of_them())


def load(base_url: str, process: SlotProcess, release: Path, manifest: Manifest, config: DeployConfig, judge: Judge | None) -> dict[str, Any]:
    if judge is None or config.gate is None:
        return {"skipped": "the environment names no gate"}
    settings = config.load_test
    output = process.log.parent / f"load-{process.port}.jsonl"
    figures = run_load_test(
        base_url,
        config.model,
        manifest,
        users=settings.users,
        seconds=settings.seconds,
        max_tokens=settings.max_tokens,
        prompts=release / "golden.jsonl",
        output=output,
    )
    verdict = judge(manifest.reference, figures)
    if verdict.outcome != "pass":
        reasons = "; ".join(f"{one.rule}: {one.sentence}" for one in verdict.results if one.outcome != "pass") or "the gate has no load rules"
        raise RefusedError(f"{manifest.reference}: load gate {verdict.outcome}: {reasons}", hint=f"tunegate loadtest {config.name}")
    return {"verdict": verdict.outcome, **figures}
