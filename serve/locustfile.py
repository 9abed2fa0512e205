"""The load: users who ask, read the whole stream, and ask again. Run by `tunegate loadtest`, as locust's own locustfile.

HttpUser, not FastHttpUser: the fast one buffers streams, and the time to the first token would be that of the last.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

from locust import HttpUser, constant, task

SETTINGS: dict[str, Any] = json.loads(os.environ["TUNEGATE_LOAD"])
PROMPTS = [json.loads(line) for line in Path(SETTINGS["prompts"]).read_text(encoding="utf8").splitlines() if line.strip()]
NUMBERS = itertools.count()
KEY = os.environ.get("TUNEGATE_LOAD_KEY")
HEADERS = {"Authorization": f"Bearer {KEY}"} if KEY else {}


def own_prompt(prompt: dict[str, Any], number: int) -> tuple[str, dict[str, Any]]:
    if "prompt" in prompt:
        return "/v1/completions", {"prompt": f"({number}) {prompt['prompt']}"}
    first, *rest = prompt["messages"]
    return "/v1/chat/completions", {"messages": [first | {"content": f"({number}) {first['content']}"}, *rest]}


def text_of(choice: dict[str, Any]) -> str | None:
    """Of a chunk of a chat or of a completion."""
    text: str | None = choice["delta"].get("content") if "delta" in choice else choice["text"]
    return text


class Reader(HttpUser):
    wait_time = constant(0)

    @task
    def ask(self) -> None:
        number = next(NUMBERS)
        prompt = PROMPTS[number % len(PROMPTS)]
        sample = {"at": time.time()} | (self.generate(prompt, number) if SETTINGS["task"] == "causal-lm" else self.classify(prompt))
        with Path(SETTINGS["output"]).open("a", encoding="utf8") as stream:
            stream.write(json.dumps(sample) + "\n")

    def classify(self, prompt: dict[str, Any]) -> dict[str, Any]:
        started = time.perf_counter()
        path, asked = ("/pooling", prompt["input_ids"]) if "input_ids" in prompt else ("/classify", prompt["text"])
        reply = self.client.post(path, json={"model": SETTINGS["model"], "input": [asked]}, headers=HEADERS)
        return {"ok": reply.ok, "status": reply.status_code, "seconds": time.perf_counter() - started, "first": None, "tokens": 0}

    def generate(self, prompt: dict[str, Any], number: int) -> dict[str, Any]:
        """A prompt of its own each time, or the prefix cache would answer for the model."""
        path, asked = own_prompt(prompt, number)
        body = asked | {"model": SETTINGS["model"], "max_tokens": SETTINGS["max_tokens"], "temperature": 0, "stream": True}
        started, arrivals, finished, status = time.perf_counter(), [], False, 0
        with self.client.post(path, json=body, headers=HEADERS, stream=True, catch_response=True) as reply:
            status = reply.status_code
            try:
                for line in reply.iter_lines(chunk_size=1):
                    finished = finished or line == b"data: [DONE]"
                    if line.startswith(b"data: {") and text_of(json.loads(line[6:])["choices"][0]):
                        arrivals.append(time.perf_counter() - started)
            except Exception as error:  # a stream cut in its middle is a finding, whatever the client library calls it
                reply.failure(f"cut: {type(error).__name__}")
            if not (finished and reply.ok):
                reply.failure(f"HTTP {status}, {len(arrivals)} tokens, no end")
        return {
            "ok": finished and status == 200,
            "status": status,
            "seconds": time.perf_counter() - started,
            "first": arrivals[0] if arrivals else None,
            "tokens": len(arrivals),
        }
