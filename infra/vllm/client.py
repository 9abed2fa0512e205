"""The seam to a served model over HTTP: one question, one answer, and parity with the trainer's own answers."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import OutsideError, RefusedError
from configs.release import Manifest
from configs.run.config import RunConfig
from configs.run.task import Task
from infra.tokenizer import NO_SUBWORD

if TYPE_CHECKING:
    import httpx

REQUEST_TIMEOUT_SECONDS = 300.0
ATTEMPTS = 4
LIKELY = 0.5


@dataclass(frozen=True)
class Answer:
    """What the served model said. `probs` maps label to probability; log-probabilities are natural logs.

    `labels`: the likely ones of a many-label classifier, or the tag of each word, whose probabilities are `confidences`.
    `logprob` sums over `scored_tokens`: a text's, a reference's, or a preference pair's chosen answer's; `rejected_logprob` is the other answer's.
    """

    text: str
    label: str | None
    probs: dict[str, float] | None
    first_token_logprob: float | None
    latency_seconds: float
    completion_tokens: int
    prompt_tokens: int = 0
    labels: list[str] | None = None
    confidences: list[float] | None = None
    value: float | None = None
    logprob: float | None = None
    scored_tokens: int = 0
    rejected_logprob: float | None = None
    followed: float | None = None


@dataclass(frozen=True)
class ParityResult:
    """Agreement in [0, 1]; difference is the mean absolute one of probabilities, values or first-token log-probabilities."""

    agreement: float
    difference: float
    prompts: int
    passed: bool


async def ask(
    client: httpx.AsyncClient, base_url: str, served_name: str, manifest: Manifest, example: dict[str, Any], *, max_new_tokens: int, api_key: str | None = None
) -> Answer:
    """Asks greedily. Raises OutsideError when the server refuses, or after four tries on connection errors and 5xx."""
    started = time.perf_counter()
    path, body = request_of(served_name, manifest.task, example, max_new_tokens)
    reply = await post(client, f"{base_url}{path}", body, api_key)
    seconds = time.perf_counter() - started
    try:
        answer = replace(read(reply, manifest, example, seconds), prompt_tokens=int((reply.get("usage") or {}).get("prompt_tokens") or 0))
        if "answer_ids" in example:
            return replace(answer, followed=await follow_answer(client, base_url, served_name, example, api_key))
        if "chosen_ids" not in example:
            return answer
        names = [name for name in ("chosen_ids", "rejected_ids") if name in example]
        scores = [await score_answer(client, base_url, served_name, example, name, api_key) for name in names]
        return replace(answer, logprob=scores[0], scored_tokens=len(example["chosen_ids"]), rejected_logprob=(*scores, None)[1])
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise OutsideError(f"{base_url}: an answer of an unexpected shape: {str(reply)[:200]}", hint=f"curl {base_url}/v1/models") from error


def request_of(served_name: str, task: Task, example: dict[str, Any], max_new_tokens: int) -> tuple[str, dict[str, Any]]:
    """Path and body. A tagged example is sent as the tokens that infra.tokenizer made of its words."""
    if task == "sequence-classification":
        return "/classify", {"model": served_name, "input": [example["text"]]}
    if task == "token-classification":
        return "/pooling", {"model": served_name, "input": [[int(token) for token in example["input_ids"]]], "task": "token_classify"}
    if "messages" in example:
        return "/v1/chat/completions", chat_request(served_name, example, max_new_tokens)
    if "prompt" in example:
        return "/v1/completions", {"model": served_name, "prompt": example["prompt"], "temperature": 0, "max_tokens": max_new_tokens, "logprobs": 1}
    return "/v1/completions", scoring_request(served_name, example["text"])


def chat_request(served_name: str, example: dict[str, Any], max_new_tokens: int) -> dict[str, Any]:
    """A trailing assistant turn is the gold answer: it is never sent."""
    messages = [dict(message) for message in example["messages"]]
    if messages and messages[-1]["role"] == "assistant":
        messages.pop()
    return {"model": served_name, "messages": messages, "temperature": 0, "max_tokens": max_new_tokens, "logprobs": True}


def scoring_request(served_name: str, prompt: str | list[int]) -> dict[str, Any]:
    """How likely each of the prompt's tokens is after those before it; the one token made is not looked at."""
    return {"model": served_name, "prompt": prompt, "temperature": 0, "max_tokens": 1, "prompt_logprobs": 0}


async def score_answer(client: httpx.AsyncClient, base_url: str, served_name: str, example: dict[str, Any], name: str, api_key: str | None) -> float:
    """Natural log-probability of a reference, or of one answer of a preference pair, after its prompt, end token included, as DPO's own loss sums it."""
    answer = [int(token) for token in example[name]]
    prompt = [int(token) for token in example["prompt_ids"]]
    reply = await post(client, f"{base_url}/v1/completions", scoring_request(served_name, prompt + answer), api_key)
    return sum(read_prompt_logprobs(reply)[-len(answer) :])


async def follow_answer(client: httpx.AsyncClient, base_url: str, served_name: str, example: dict[str, Any], api_key: str | None) -> float:
    """Share of a golden answer's tokens that the server finds likeliest too, each after the golden ones before it.

    Whole greedy texts part for good at the first near-tie, which INT8 turns; their tokens do not.
    """
    prompt = [int(token) for token in example["prompt_ids"] + example["answer_ids"]]
    reply = await post(client, f"{base_url}/v1/completions", scoring_request(served_name, prompt), api_key)
    entries = reply["choices"][0]["prompt_logprobs"][-len(example["answer_ids"]) :]
    return sum(int(next(iter(entry.values()))["rank"]) == 1 for entry in entries) / len(entries)


def read(reply: Any, manifest: Manifest, example: dict[str, Any], seconds: float) -> Answer:
    if manifest.task == "sequence-classification":
        return read_number(reply, seconds) if manifest.problem == "regression" else read_probs(reply, manifest, seconds)
    if manifest.task == "token-classification":
        return read_tags(reply, manifest.labels, example, seconds)
    if "messages" in example:
        return read_chat(reply, seconds)
    if "prompt" in example:
        return read_completion(reply, seconds)
    scores = read_prompt_logprobs(reply)
    return Answer("", None, None, None, seconds, 0, logprob=sum(scores), scored_tokens=len(scores))


def read_probs(reply: Any, manifest: Manifest, seconds: float) -> Answer:
    """vLLM ClassificationData: probs by class index, softmax for one label, a sigmoid each for many.

    The one label is the answer's own word, for that is what applications read: it comes from config.json's map, the probabilities do not.
    """
    found = reply["data"][0]
    values = found["probs"]
    probs = {label: float(value) for label, value in zip(manifest.labels, values, strict=True)}
    if manifest.problem == "multi_label":
        likely = [label for label, value in probs.items() if value > LIKELY]
        return Answer(joined(likely), None, probs, None, seconds, 0, labels=likely)
    if found["label"] not in probs:
        raise ValueError(f"label {found['label']!r}, expected one of {manifest.labels}")
    return Answer(found["label"], found["label"], probs, None, seconds, 0)


def joined(labels: list[str]) -> str:
    """One text for any number of labels; never empty, for an empty answer is no proof of life."""
    return ", ".join(labels) or "(none)"


def read_number(reply: Any, seconds: float) -> Answer:
    """vLLM applies no activation to a regression: `probs` holds the number itself."""
    (value,) = reply["data"][0]["probs"]
    return Answer(f"{value:.6g}", None, None, None, seconds, 0, value=float(value))


def read_tags(reply: Any, labels: list[str], example: dict[str, Any], seconds: float) -> Answer:
    """Probabilities of every token by tag; a word's tag stands at its first subword. Raises ValueError where the tokens are not those that were sent."""
    tokens = reply["data"][0]["data"]
    if len(tokens) != len(example["input_ids"]):
        raise ValueError(f"{len(tokens)} tokens for {len(example['input_ids'])}")
    tags, confidences = [], []
    for index in example["first_subwords"]:
        probs = dict(zip(labels, tokens[index], strict=True)) if index != NO_SUBWORD else {labels[0]: 1.0}  # "O" comes first
        tags.append(max(probs, key=probs.__getitem__))
        confidences.append(float(probs[tags[-1]]))
    return Answer(" ".join(tags), None, None, None, seconds, 0, labels=tags, confidences=confidences)


def read_chat(reply: Any, seconds: float) -> Answer:
    choice = reply["choices"][0]
    tokens = (choice.get("logprobs") or {}).get("content") or []
    first = float(tokens[0]["logprob"]) if tokens else None
    return Answer(choice["message"]["content"] or "", None, None, first, seconds, int(reply["usage"]["completion_tokens"]))


def read_completion(reply: Any, seconds: float) -> Answer:
    choice = reply["choices"][0]
    scores = (choice.get("logprobs") or {}).get("token_logprobs") or [None]
    return Answer(choice["text"], None, None, scores[0], seconds, int(reply["usage"]["completion_tokens"]))


def read_prompt_logprobs(reply: Any) -> list[float]:
    """One natural log a prompt token, the first token's excepted: nothing comes before it."""
    entries = reply["choices"][0]["prompt_logprobs"][1:]
    return [float(next(iter(entry.values()))["logprob"]) for entry in entries]


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
    agreement = sum(agrees(answer, line, settings.parity.max_difference) for answer, line in zip(answers, lines, strict=True)) / len(lines)
    difference = sum(differ(answer, line) for answer, line in zip(answers, lines, strict=True)) / len(lines)
    passed = agreement >= settings.parity.min_agreement and difference <= settings.parity.max_difference
    return ParityResult(agreement, difference, len(lines), passed)


async def ask_all(base_url: str, served_name: str, manifest: Manifest, lines: list[dict[str, Any]], max_new_tokens: int, api_key: str | None) -> list[Answer]:
    import httpx

    async with httpx.AsyncClient() as client:
        return await asyncio.gather(*(ask(client, base_url, served_name, manifest, line, max_new_tokens=max_new_tokens, api_key=api_key) for line in lines))


def agrees(answer: Answer, golden: dict[str, Any], tolerance: float) -> float:
    """1 or 0; of a tagger the share of words tagged alike, of a GPT that of tokens; of a number, whether it lies within `tolerance`."""
    if answer.followed is not None:
        return answer.followed
    if answer.value is not None:
        return float(differ(answer, golden) <= tolerance)
    if answer.confidences is not None:
        stated = str(golden["answer"]).split(" ")
        return sum(tag == other for tag, other in zip(answer.labels or [], stated, strict=True)) / len(stated)
    return float((answer.label or answer.text).strip() == str(golden["answer"]).strip())


def differ(answer: Answer, golden: dict[str, Any]) -> float:
    """Infinite where either side has no figure: absence is never parity."""
    missing = float("inf")
    if answer.probs is not None:
        stated: dict[str, float] = golden.get("probs") or {}
        return sum(abs(p - stated.get(label, missing)) for label, p in answer.probs.items()) / len(answer.probs)
    if answer.confidences is not None:
        confidences: list[float] = golden.get("confidences") or [missing] * len(answer.confidences)
        return sum(abs(p - other) for p, other in zip(answer.confidences, confidences, strict=True)) / len(confidences)
    found, key = (answer.value, "value") if answer.value is not None else (answer.first_token_logprob, "first_token_logprob")
    return abs(found - float(golden[key])) if found is not None and golden.get(key) is not None else missing
