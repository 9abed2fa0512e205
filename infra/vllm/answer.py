"""What vLLM answered, read for each task."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from configs.release import Manifest
from configs.section import JsonObject
from infra.served_messages import said
from infra.tokenizer import NO_SUBWORD, Row

LIKELY = 0.5


@dataclass(frozen=True)
class Answer:
    """What the served model said. `probs` maps label to probability; log-probabilities are natural logs.

    `labels`: the likely ones of a many-label classifier, or the tag of each word, whose probabilities are
    `confidences`. `logprob` sums over `scored_tokens`: a text's, a reference's, or a preference pair's chosen answer's;
    `rejected_logprob` is the other answer's. `value` is a regression's number, or a reward model's for the
    chosen answer; `rejected_value` that for the other.
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
    rejected_value: float | None = None


def read(reply: Any, manifest: Manifest, example: Row, seconds: float) -> Answer:
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

    The one label is the answer's own word, for that is what applications read: it comes from config.json's map, the
    probabilities do not.
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


def read_tags(reply: Any, labels: list[str], example: Row, seconds: float) -> Answer:
    """Probabilities of every token by tag; a word's tag stands at its first subword. Raises ValueError where the tokens
    are not those that were sent."""
    tokens = reply["data"][0]["data"]
    if len(tokens) != len(example["input_ids"]):
        raise ValueError(f"{len(tokens)} tokens for {len(example['input_ids'])}")
    tags, confidences = [], []
    for index in example["first_subwords"]:
        probs = (
            dict(zip(labels, tokens[index], strict=True)) if index != NO_SUBWORD else {labels[0]: 1.0}
        )  # "O" comes first
        tags.append(max(probs, key=probs.__getitem__))
        confidences.append(float(probs[tags[-1]]))
    return Answer(" ".join(tags), None, None, None, seconds, 0, labels=tags, confidences=confidences)


def read_chat(reply: Any, seconds: float) -> Answer:
    choice = reply["choices"][0]
    tokens = (choice.get("logprobs") or {}).get("content") or []
    first = float(tokens[0]["logprob"]) if tokens else None
    text = said(
        choice["message"] | {"tool_calls": [read_call(one) for one in choice["message"].get("tool_calls") or []]}
    )
    return Answer(text, None, None, first, seconds, int(reply["usage"]["completion_tokens"]))


def read_call(call: JsonObject) -> JsonObject:
    """A call as a row has it; arguments that are no JSON stay the text that they are."""
    function = call["function"]
    try:
        return {"function": function | {"arguments": json.loads(function["arguments"])}}
    except ValueError:
        return {"function": function}


def read_completion(reply: Any, seconds: float) -> Answer:
    choice = reply["choices"][0]
    scores = (choice.get("logprobs") or {}).get("token_logprobs") or [None]
    return Answer(choice["text"], None, None, scores[0], seconds, int(reply["usage"]["completion_tokens"]))


def read_prompt_logprobs(reply: Any) -> list[float]:
    """One natural log a prompt token, the first token's excepted: nothing comes before it."""
    entries = reply["choices"][0]["prompt_logprobs"][1:]
    return [float(next(iter(entry.values()))["logprob"]) for entry in entries]
