"""What a slot must show before traffic reaches it. Each proof returns its facts, or raises RefusedError with the
reason."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from configs.environment.config import DeployConfig
from configs.errors import RefusedError
from configs.release import Manifest
from infra.kubernetes.slot import SlotPods, wait_ready
from infra.state.folder import state_folder
from infra.state.start_time import timeout_of
from infra.vllm.client import ask
from infra.vllm.parity import check_parity
from infra.vllm.server import wait_started
from serve.load.run import measuring
from serve.proofs.baseline import Blue, keep_figures, measure_baseline, needs_baseline
from serve.proofs.smoke import run_smoke
from serve.record.environment import LoadGate, SlotServer

WARM_REQUESTS = 4


def prove(
    proof: str,
    server: SlotServer,
    release: Path,
    manifest: Manifest,
    config: DeployConfig,
    load_gate: LoadGate | None,
    blue: Blue | None = None,
    last_start: float | None = None,
) -> Mapping[str, object]:
    """`proof` is one of serve.record.event.PROOF; asked straight at the slot, never through the router. `blue`: what
    serves meanwhile; `last_start`: seconds that the environment's last start took."""
    base_url = server.base_url
    if proof == "healthy":
        if isinstance(server, SlotPods):
            least = wait_ready(server, timeout_of(manifest, config.start_timeout_seconds, last_start), last_start)
            return {"pods_ready_seconds": round(least, 1)}
        wait_started(server, manifest, config.start_timeout_seconds, last_start)
        return {}
    if proof == "warm":
        return {"answers": len(ask_golden(base_url, release, manifest, config, WARM_REQUESTS))}
    if proof == "smoke":
        # /health says 200 while generation is broken: only a real answer is proof of life.
        (answer,) = ask_golden(base_url, release, manifest, config, 1)
        if not answer:
            raise RefusedError(f"{manifest.reference}: a real request got an empty answer", hint=log_hint(server))
        own = run_smoke(Path(config.smoke), base_url, config.model) if config.smoke else {}
        return {"answer": answer[:120], **own}
    if proof == "parity":
        parity = check_parity(base_url, config.model, release, manifest)
        if not parity.passed:
            agreement = f"{parity.agreement:.0%} agree, difference {parity.difference:.3g}"
            raise RefusedError(
                f"{manifest.reference}: served answers differ from the trainer's own: {agreement}",
                hint="tunegate evaluate CONFIG",
            )
        return asdict(parity)
    return prove_load(server, release, manifest, config, load_gate, blue)


def ask_golden(base_url: str, release: Path, manifest: Manifest, config: DeployConfig, count: int) -> list[str]:
    """The answers' texts (a classifier's labels) to the first `count` golden prompts."""
    text = (release / "golden.jsonl").read_text(encoding="utf8")
    lines = [json.loads(line) for line in text.split("\n")[:count] if line]

    async def all_of_them() -> list[str]:
        import httpx

        async with httpx.AsyncClient() as client:
            answers = await asyncio.gather(
                *(
                    ask(client, base_url, config.model, manifest, line, max_new_tokens=config.load_test.max_tokens)
                    for line in lines
                )
            )
            return [answer.label or answer.text for answer in answers]

    return asyncio.run(all_of_them())


def log_hint(server: SlotServer) -> str:
    return server.hint if isinstance(server, SlotPods) else f"less {server.log}"


def name_of(server: SlotServer) -> str:
    """Of the folder of its load test's figures."""
    return server.name if isinstance(server, SlotPods) else str(server.port)


def prove_load(
    server: SlotServer,
    release: Path,
    manifest: Manifest,
    config: DeployConfig,
    load_gate: LoadGate | None,
    blue: Blue | None,
) -> Mapping[str, object]:
    """Blue first, for green's load would slow it. Raises RefusedError with every rule that did not pass."""
    if load_gate is None or config.gate is None:
        return {"skipped": "the environment names no gate"}
    settings, prompts, folder = config.load_test, release / "golden.jsonl", state_folder(config) / "loadtest"
    measure = measuring(config.model, settings, prompts)
    baseline, how = (
        measure_baseline(blue, settings, prompts, folder, measure) if needs_baseline(Path(config.gate)) else ({}, {})
    )
    figures = measure(server.base_url, manifest, folder / name_of(server))
    keep_figures(folder, manifest.reference, settings, prompts, figures)
    verdict = load_gate(manifest.reference, figures | baseline)
    if verdict.outcome != "pass":
        reasons = (
            "; ".join(f"{one.rule}: {one.sentence}" for one in verdict.results if one.outcome != "pass")
            or "the gate has no load rules"
        )
        raise RefusedError(
            f"{manifest.reference}: load gate {verdict.outcome}: {reasons}", hint=f"tunegate loadtest {config.name}"
        )
    return {
        "verdict": verdict.outcome,
        **figures,
        **baseline,
        **how,
        "report": str(folder / name_of(server) / "report.html"),
    }
