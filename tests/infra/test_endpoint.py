from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from configs.errors import OutsideError
from configs.release import Manifest
from infra.endpoint import Answer, ask, differ

pytestmark = pytest.mark.unit


def manifest(task: str) -> Manifest:
    return Manifest.model_construct(name="m", task=task, labels=["no", "yes"])


def answer(task: str, handler: httpx.MockTransport) -> Answer:
    async def go() -> Answer:
        async with httpx.AsyncClient(transport=handler) as client:
            example = {"text": "t", "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "gold"}]}
            return await ask(client, "http://x", "m", manifest(task), example, max_new_tokens=4)

    return asyncio.run(go())


def test_classifier_maps_probs_by_index_and_retries_5xx() -> None:
    replies = [httpx.Response(503), httpx.Response(200, json={"data": [{"probs": [0.2, 0.8], "label": "LABEL_1"}]})]
    found = answer("sequence-classification", httpx.MockTransport(lambda request: replies.pop(0)))
    assert found.label == "yes" and found.probs == {"no": 0.2, "yes": 0.8}
    assert differ(found, {"probs": {"no": 0.1, "yes": 0.9}}) == pytest.approx(0.1)
    assert differ(found, {}) == float("inf")


def test_chat_never_sends_the_gold_answer() -> None:
    def reply(request: httpx.Request) -> httpx.Response:
        assert len(json.loads(request.content)["messages"]) == 1
        choice = {"message": {"content": "hi"}, "logprobs": {"content": [{"logprob": -0.5}]}}
        return httpx.Response(200, json={"choices": [choice], "usage": {"completion_tokens": 1}})

    assert answer("causal-lm", httpx.MockTransport(reply)).first_token_logprob == -0.5


def test_refusal_and_wrong_shape_are_outside_errors(tmp_path: Path) -> None:
    for response in (httpx.Response(404), httpx.Response(200, json={}), httpx.Response(200, text="no")):
        with pytest.raises(OutsideError):
            answer("causal-lm", httpx.MockTransport(lambda request, response=response: response))
