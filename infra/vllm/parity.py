"""Golden prompts asked of a server, and held against the trainer's own answers."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from configs.errors import RefusedError
from configs.release import Manifest
from configs.run.evaluate import Evaluate
from infra.tokenizer import Row
from infra.vllm.answer import Answer
from infra.vllm.client import ask

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class ParityResult:
    """Agreement in [0, 1]; difference is the mean absolute one of probabilities, values or first-token
    log-probabilities."""

    agreement: float
    difference: float
    prompts: int
    passed: bool


def check_parity(
    base_url: str, served_name: str, release: Path, manifest: Manifest, api_key: str | None = None
) -> ParityResult:
    """Asks every golden prompt. Raises RefusedError if the release has none, ExternalError if the server does not
    answer."""
    path = release / "golden.jsonl"
    lines = (
        [json.loads(line) for line in path.read_text(encoding="utf8").split("\n") if line.strip()]
        if path.exists()
        else []
    )
    if not lines:
        raise RefusedError(f"{path}: no golden prompts, so parity cannot be shown", hint="tunegate quantize CONFIG")
    # Of the manifest's config only this section: others may have keys of an earlier version.
    settings = Evaluate.model_validate(manifest.config.get("evaluate", {}))
    answers = asyncio.run(ask_all(base_url, served_name, manifest, lines, settings.max_new_tokens, api_key))
    agreement = sum(
        agrees(answer, line, settings.parity.max_difference) for answer, line in zip(answers, lines, strict=True)
    ) / len(lines)
    difference = sum(differ(answer, line) for answer, line in zip(answers, lines, strict=True)) / len(lines)
    passed = agreement >= settings.parity.min_agreement and difference <= settings.parity.max_difference
    return ParityResult(agreement, difference, len(lines), passed)


async def ask_all(
    base_url: str,
    served_name: str,
    manifest: Manifest,
    lines: list[Row],
    max_new_tokens: int,
    api_key: str | None,
) -> list[Answer]:
    import httpx

    async with httpx.AsyncClient() as client:
        return await asyncio.gather(
            *(
                ask(client, base_url, served_name, manifest, line, max_new_tokens=max_new_tokens, api_key=api_key)
                for line in lines
            )
        )


def agrees(answer: Answer, golden: Row, tolerance: float) -> float:
    """1 or 0; of a tagger the share of words tagged alike, of a GPT that of tokens; of a number, whether it lies within
    `tolerance`."""
    if answer.followed is not None:
        return answer.followed
    if answer.value is not None:
        return float(differ(answer, golden) <= tolerance)
    if answer.confidences is not None:
        stated = str(golden["answer"]).split(" ")
        return sum(tag == other for tag, other in zip(answer.labels or [], stated, strict=True)) / len(stated)
    return float((answer.label or answer.text).strip() == str(golden["answer"]).strip())


def differ(answer: Answer, golden: Row) -> float:
    """Infinite where either side has no figure: absence is never parity."""
    missing = float("inf")
    if answer.probs is not None:
        stated: dict[str, float] = golden.get("probs") or {}
        return sum(abs(p - stated.get(label, missing)) for label, p in answer.probs.items()) / len(answer.probs)
    if answer.confidences is not None:
        confidences: list[float] = golden.get("confidences") or [missing] * len(answer.confidences)
        return sum(abs(p - other) for p, other in zip(answer.confidences, confidences, strict=True)) / len(confidences)
    found, key = (
        (answer.value, "value") if answer.value is not None else (answer.first_token_logprob, "first_token_logprob")
    )
    return abs(found - float(golden[key])) if found is not None and golden.get(key) is not None else missing
