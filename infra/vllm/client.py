"""The seam to a served model over HTTP: one question, one answer, and parity with the trainer's own answers."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from configs.errors import ExternalError
from configs.release import Manifest
from configs.task import Task
from infra.served_messages import as_request, served_tool
from infra.tokenizer import Row
from infra.vllm.answer import Answer, read, read_prompt_logprobs

if TYPE_CHECKING:
    import httpx

REQUEST_TIMEOUT_SECONDS = 300.0
ATTEMPTS = 4


async def ask(
    client: httpx.AsyncClient,
    base_url: str,
    served_name: str,
    manifest: Manifest,
    example: Row,
    *,
    max_new_tokens: int,
    api_key: str | None = None,
) -> Answer:
    """Asks greedily. Raises ExternalError when the server refuses, or after four tries on connection errors and 5xx."""
    started = time.perf_counter()
    path, body = request_of(served_name, manifest.task, example, max_new_tokens)
    if "tools" in body and manifest.serving.tool_parser and "answer_ids" not in example:
        body["tool_choice"] = "auto"  # the server reads the calls; a golden answer is compared as text
    reply = await post(client, f"{base_url}{path}", body, api_key)
    seconds = time.perf_counter() - started
    try:
        answer = replace(
            read(reply, manifest, example, seconds),
            prompt_tokens=int((reply.get("usage") or {}).get("prompt_tokens") or 0),
        )
        if manifest.task == "sequence-classification" and "rejected" in example:
            path, body = request_of(served_name, manifest.task, rejected(example), max_new_tokens)
            worse = read(await post(client, f"{base_url}{path}", body, api_key), manifest, example, 0.0)
            return replace(answer, rejected_value=worse.value)
        if "answer_ids" in example:
            return replace(answer, followed=await follow_answer(client, base_url, served_name, example, api_key))
        if "chosen_ids" not in example:
            return answer
        names = [name for name in ("chosen_ids", "rejected_ids") if name in example]
        scores = [await score_answer(client, base_url, served_name, example, name, api_key) for name in names]
        return replace(
            answer, logprob=scores[0], scored_tokens=len(example["chosen_ids"]), rejected_logprob=(*scores, None)[1]
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ExternalError(
            f"{base_url}: an answer of an unexpected shape: {str(reply)[:200]}", hint=f"curl {base_url}/v1/models"
        ) from error


def request_of(served_name: str, task: Task, example: Row, max_new_tokens: int) -> tuple[str, dict[str, object]]:
    """Path and body. A tagged example is sent as the tokens that infra.tokenizer made of its words."""
    if task == "sequence-classification":
        return "/classify", {"model": served_name} | judged(example)
    if task == "token-classification":
        return "/pooling", {
            "model": served_name,
            "input": [[int(token) for token in example["input_ids"]]],
            "task": "token_classify",
        }
    if "messages" in example:
        return "/v1/chat/completions", chat_request(served_name, example, max_new_tokens)
    if "prompt" in example:
        return "/v1/completions", {
            "model": served_name,
            "prompt": example["prompt"],
            "temperature": 0,
            "max_tokens": max_new_tokens,
            "logprobs": 1,
        }
    return "/v1/completions", scoring_request(served_name, example["text"])


def judged(example: Row) -> dict[str, object]:
    """A text, or of a reward model a whole conversation: vLLM renders it without a prompt for a further turn. Its
    protocol there has no `tools` (vllm/entrypoints/pooling/base/protocol.py), so they go to the template beside it."""
    if "messages" not in example:
        return {"input": [example["text"]]}
    tools = [served_tool(tool) for tool in example.get("tools") or []]
    messages = [as_request(message) for message in example["messages"]]
    return {"messages": messages} | ({"chat_template_kwargs": {"tools": tools}} if tools else {})


def rejected(example: Row) -> Row:
    """A preference pair's conversation with its other answer."""
    return example | {"messages": [*example["messages"][:-1], {"role": "assistant", "content": example["rejected"]}]}


def chat_request(served_name: str, example: Row, max_new_tokens: int) -> dict[str, object]:
    """A trailing assistant turn is the gold answer: it is never sent. Tools go into the prompt; calls come as text."""
    messages = [as_request(message) for message in example["messages"]]
    if messages and messages[-1]["role"] == "assistant":
        messages.pop()
    tools = {"tools": example["tools"], "tool_choice": "none"} if example.get("tools") else {}
    return {
        "model": served_name,
        "messages": messages,
        "temperature": 0,
        "max_tokens": max_new_tokens,
        "logprobs": True,
    } | tools


def scoring_request(served_name: str, prompt: str | list[int]) -> dict[str, object]:
    """How likely each of the prompt's tokens is after those before it; the one token made is not looked at."""
    return {"model": served_name, "prompt": prompt, "temperature": 0, "max_tokens": 1, "prompt_logprobs": 0}


async def score_answer(
    client: httpx.AsyncClient, base_url: str, served_name: str, example: Row, name: str, api_key: str | None
) -> float:
    """Natural log-probability of a reference, or of one answer of a preference pair, after its prompt, end token
    included, as DPO's own loss sums it."""
    answer = [int(token) for token in example[name]]
    prompt = [int(token) for token in example["prompt_ids"]]
    reply = await post(client, f"{base_url}/v1/completions", scoring_request(served_name, prompt + answer), api_key)
    return sum(read_prompt_logprobs(reply)[-len(answer) :])


async def follow_answer(
    client: httpx.AsyncClient, base_url: str, served_name: str, example: Row, api_key: str | None
) -> float:
    """Share of a golden answer's tokens that the server finds likeliest too, each after the golden ones before it.

    Whole greedy texts part for good at the first near-tie, which INT8 turns; their tokens do not.
    """
    prompt = [int(token) for token in example["prompt_ids"] + example["answer_ids"]]
    reply = await post(client, f"{base_url}/v1/completions", scoring_request(served_name, prompt), api_key)
    entries = reply["choices"][0]["prompt_logprobs"][-len(example["answer_ids"]) :]
    return sum(int(next(iter(entry.values()))["rank"]) == 1 for entry in entries) / len(entries)


async def post(client: httpx.AsyncClient, url: str, body: Mapping[str, object], api_key: str | None) -> Any:
    """The one HTTP call; foreign exceptions end here."""
    import httpx
    from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_exponential

    def is_transient(error: BaseException) -> bool:
        return isinstance(error, httpx.TransportError) or (
            isinstance(error, httpx.HTTPStatusError) and error.response.status_code >= 500
        )

    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    retrying = AsyncRetrying(
        retry=retry_if_exception(is_transient),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential(0.2, max=3),
        reraise=True,
    )
    try:
        async for attempt in retrying:
            with attempt:
                response = await client.post(url, json=body, headers=headers, timeout=REQUEST_TIMEOUT_SECONDS)
                response.raise_for_status()
                return response.json()
    except httpx.HTTPStatusError as error:
        raise ExternalError(
            f"{url}: HTTP {error.response.status_code}: {error.response.text[:200]}", hint=f"curl -i {url}"
        ) from error
    except (httpx.HTTPError, json.JSONDecodeError) as error:
        raise ExternalError(f"{url}: {type(error).__name__}: {error}", hint=f"curl -i {url}") from error
    raise AssertionError("unreachable: tenacity reraises")
