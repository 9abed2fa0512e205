"""The seam to a served model over HTTP: one question, one answer, and parity with the trainer's own answers."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import OutsideError, RefusedError
from configs.release import Manifest
from configs.schema import RunConfig

if TYPE_CHECKING:
    import httpx

REQUEST_TIMEOUT_SECONDS = 300.0
ATTEMPTS = 4


@dataclass(frozen=True)
class Answer:
    """What the served model said. `probs` maps label to probability; the log-probability is a natural log."""

    text: str
    label: str | None
    probs: dict[str, float] | None
    first_token_logprob: float | None
    latency_seconds: float
    completion_tokens: int
    prompt_tokens: int = 0


@dataclass(frozen=True)
class ParityResult:
    """Agreement in [0, 1]; difference is the mean absolute one of probabilities or first-token log-probabilities."""

    agreement: float
    difference: float
    prompts: int
    passed: bool


async def ask(
    client: httpx.AsyncClient, base_url: str, served_name: str, manifest: Manifest, example: dict[str, Any], *, max_new_tokens: int, api_key: str | None = None
) -> Answer:
    """Asks greedily. Raises OutsideError when the server refuses, or after four tries on connection errors and 5xx."""
    started = time.perf_counter()
    if manifest.task == "sequence-classification":
        reply = await post(client, f"{base_url}/classify", {"model": served_name, "input": [example["text"]]}, api_key)
    else:
        reply = await post(client, f"{base_url}/v1/chat/completions", chat_request(served_name, example, max_new_tokens), api_key)
    seconds = time.perf_counter() - started
    try:
        return read_probs(reply, manifest.labels, seconds) if manifest.task == "sequence-classification" else read_chat(reply, seconds)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise OutsideError(f"{base_url}: an answer of an unexpected shape: {str(reply)[:200]}", hint=f"curl {base_url}/v1/models") from error


def chat_request(served_name: str, example: dict[str, Any], max_new_tokens: int) -> dict[str, Any]:
    """A trailing assistant turn is the gold answer: it is never sent."""
    messages = [dict(message) for message in example["messages"]]
    if messages and messages[-1]["role"] == "assistant":
        messages.pop()
    return {"model": served_name, "messages": messages, "temperature": 0, "max_tokens": max_new_tokens, "logprobs": True}


def read_probs(reply: Any, labels: list[str], seconds: float) -> Answer:
    """vLLM ClassificationData: probs by class index."""
    values = reply["data"][0]["probs"]
    probs = {label: float(value) for label, value in zip(labels, values, strict=True)}
    label = max(probs, key=probs.__getitem__)
    return Answer(label, label, probs, None, seconds, 0, int((reply.get("usage") or {}).get("prompt_tokens", 0)))


def read_chat(reply: Any, seconds: float) -> Answer:
    choice = reply["choices"][0]
    tokens = (choice.get("logprobs") or {}).get("content") or []
    first = float(tokens[0]["logprob"]) if tokens else None
    return Answer(choice["message"]["content"] or "", None, None, first, seconds, int(reply["usage"]["completion_tokens"]))


async def post(client: httpx.AsyncClient, url: str, body: dict[str, Any], api_key: str | None) -> Any:
    """The one HTTP call; foreign exceptions end here."""
    import httpx
    from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_exponential

    def is_transient(error: BaseException) -> bool:
        return isinstance(error, httpx.TransportError) or (isinstance(error, httpx.HTTPStatusError) and error.response.status_code >= 500)

    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    retrying = AsyncRetrying(retry=retry_if_exception(is_transient), stop=stop_after_attempt(ATTEMPTS), wait=wait_exponential(0.2, max=3), reraise=True)
    try:
        async for attempt in retrying:
            with attempt:
                response = await client.post(url, json=body, headers=headers, timeout=REQUEST_TIMEOUT_SECONDS)
                response.raise_for_status()
                return response.json()
    except httpx.HTTPStatusError as error:
        raise OutsideError(f"{url}: HTTP {error.response.status_code}: {error.response.text[:200]}", hint=f"curl -i {url}") from error
    except (httpx.HTTPError, json.JSONDecodeError) as error:
        raise OutsideError(f"{url}: {type(error).__name__}: {error}", hint=f"curl -i {url}") from error
    raise AssertionError("unreachable: tenacity reraises")


def check_parity(base_url: str, served_name: str, release: Path, manifest: Manifest, api_key: str | None = None) -> ParityResult:
    """Asks every golden prompt. Raises RefusedError if the release has none, OutsideError if the server does not answer."""
    path = release / "golden.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf8").splitlines() if line.strip()] if path.exists() else []
    if not lines:
        raise RefusedError(f"{path}: no golden prompts, so parity cannot be shown", hint="tunegate quantize CONFIG")
    settings = RunConfig.model_validate(manifest.config).evaluate
    answers = asyncio.run(ask_all(base_url, served_name, manifest, lines, settings.max_new_tokens, api_key))
    agreement = sum(agrees(answer, line) for answer, line in zip(answers, lines, strict=True)) / len(lines)
    difference = sum(differ(answer, line) for answer, line in zip(answers, lines, strict=True)) / len(lines)
    passed = agreement >= settings.parity.min_agreement and difference <= settings.parity.max_difference
    return ParityResult(agreement, difference, len(lines), passed)


async def ask_all(base_url: str, served_name: str, manifest: Manifest, lines: list[dict[str, Any]], max_new_tokens: int, api_key: str | None) -> list[Answer]:
    import httpx

    async with httpx.AsyncClient() as client:
        return await asyncio.gather(*(ask(client, base_url, served_name, manifest, line, max_new_tokens=max_new_tokens, api_key=api_key) for line in lines))


def agrees(answer: Answer, golden: dict[str, Any]) -> bool:
    return (answer.label or answer.text).strip() == str(golden["answer"]).strip()


def differ(answer: Answer, golden: dict[str, Any]) -> float:
    """Infinite where either side has no figure: absence is never parity."""
    if answer.probs is not None:
        stated: dict[str, float] = golden.get("probs") or {}
        return sum(abs(p - stated.get(label, float("inf"))) for label, p in answer.probs.items()) / len(answer.probs)
    stated_logprob = golden.get("first_token_logprob")
    if answer.first_token_logprob is None or stated_logprob is None:
        return float("inf")
    return abs(answer.first_token_logprob - float(stated_logprob))
