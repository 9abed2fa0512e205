"""The load. Run by `tunegate loadtest`, as locust's own locustfile; it knows nothing of ours but the settings in
TUNEGATE_LOAD.

HttpUser, not FastHttpUser: the fast one buffers streams, and the time to the first token would be that of the last.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

import gevent
from gevent.pool import Group
from locust import HttpUser, constant, task
from locust.exception import StopUser
from urllib3 import PoolManager

Json = dict[str, Any]  # a request, an answer, or a line of ours
SETTINGS: Json = json.loads(os.environ["TUNEGATE_LOAD"])
PLAN: list[Json] = (
    [json.loads(line) for line in Path(SETTINGS["plan"]).read_text(encoding="utf8").split("\n") if line]
    if SETTINGS.get("plan")
    else []
)
PROMPTS = [
    json.loads(line) for line in Path(SETTINGS["prompts"]).read_text(encoding="utf8").split("\n") if line.strip()
]
NUMBERS = itertools.count()
LEAD_SECONDS = 0.5  # locust itself is busy when it has just started its users
WORKER = 1_000_000  # between the numbers of two of locust's workers
KEY = os.environ.get("TUNEGATE_LOAD_KEY")
HEADERS = {"Authorization": f"Bearer {KEY}"} if KEY else {}
# An open loop has as many requests in flight as the server lets pile up.
CONNECTIONS = PoolManager(num_pools=4, maxsize=1024, block=False)


def request_of(number: int) -> tuple[str, Json]:
    """A prompt of its own each time, or the prefix cache would answer for the model: `salt` differs from run to run,
    its length does not."""
    prompt, own = PROMPTS[number % len(PROMPTS)], f"({SETTINGS.get('salt', '')}{number:06d}) "
    if SETTINGS["task"] != "causal-lm":
        return (
            ("/pooling", {"input": [prompt["input_ids"]]})
            if "input_ids" in prompt
            else ("/classify", {"input": [prompt["text"]]})
            if "text" in prompt
            else ("/classify", {"messages": salted(prompt["messages"], own)} | tools_of(prompt, inner=True))
        )
    asked = {
        "max_tokens": SETTINGS["max_tokens"],
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if "prompt" in prompt:
        return "/v1/completions", asked | {"prompt": own + prompt["prompt"]}
    return "/v1/chat/completions", asked | {"messages": salted(prompt["messages"], own)} | tools_of(prompt)


def salted(messages: list[Json], own: str) -> list[Json]:
    """A first turn that only calls has no content."""
    first, *rest = messages
    return [first | {"content": own + (first.get("content") or "")}, *rest]


def tools_of(prompt: Json, inner: bool = False) -> Json:
    """As infra/vllm/client.py sends them: they are a good part of the prompt, and a call is timed as text. `inner`:
    for the template alone, for /classify takes none."""
    tools = {"tools": prompt["tools"]} if prompt.get("tools") else {}
    return {} if not tools else {"chat_template_kwargs": tools} if inner else tools | {"tool_choice": "none"}


def has_text(choice: Json) -> bool:
    """Of a chunk of a chat or of a completion."""
    return bool(choice["delta"].get("content") if "delta" in choice else choice["text"])


def ask(client: Any, path: str, body: Json, began: float, **facts: Any) -> None:
    """`began`: when the request was meant to start (perf_counter). Every time is counted from there, waits of our own
    included."""
    late = time.perf_counter() - began
    at = time.time() - late
    sent = body | {"model": SETTINGS["model"]}
    sample = stream(client, path, sent, began) if body.get("stream") else post(client, path, sent)
    sample |= {"at": at, "late": late, "seconds": time.perf_counter() - began, **facts}
    with Path(SETTINGS["output"]).open("a", encoding="utf8") as output:
        output.write(json.dumps(sample) + "\n")


def post(client: Any, path: str, body: Json) -> Json:
    reply = client.post(path, json=body, headers=HEADERS)
    return {"ok": reply.ok, "status": reply.status_code, "first": None, "tokens": 0, "gaps": []}


def stream(client: Any, path: str, body: Json, began: float) -> Json:
    """`gaps`: seconds between chunks with text. `tokens` as the server counts them, for a chunk may hold several."""
    arrivals: list[float] = []
    finished, status, usage = False, 0, None
    with client.post(path, json=body, headers=HEADERS, stream=True, catch_response=True) as reply:
        status = reply.status_code
        try:
            for line in reply.iter_lines(chunk_size=1):
                finished = finished or line == b"data: [DONE]"
                if line.startswith(b"data: {"):
                    chunk = json.loads(line[6:])
                    usage = chunk.get("usage") or usage
                    if chunk.get("choices") and has_text(chunk["choices"][0]):
                        arrivals.append(time.perf_counter() - began)
        except Exception as error:  # a stream cut in its middle is a finding, whatever the client library calls it
            reply.failure(f"cut: {type(error).__name__}")
        if not (finished and reply.ok):
            reply.failure(f"HTTP {status}, {len(arrivals)} tokens, no end")
    gaps = [round(after - before, 6) for before, after in itertools.pairwise(arrivals)]
    tokens = int((usage or {}).get("completion_tokens") or len(arrivals))
    return {
        "ok": finished and status == 200,
        "status": status,
        "first": arrivals[0] if arrivals else None,
        "tokens": tokens,
        "gaps": gaps,
    }


class Reader(HttpUser):
    """Closed loop: asks, reads to the end, asks again."""

    abstract = bool(PLAN)
    wait_time = constant(0)
    pool_manager = CONNECTIONS

    @task
    def read(self) -> None:
        number = next(NUMBERS) + WORKER * getattr(self.environment.runner, "worker_index", 0)
        ask(self.client, *request_of(number), time.perf_counter())


class Planner(HttpUser):
    """Open loop: sends every request of the plan at its time, whatever became of those before. One of these in each of
    locust's workers."""

    abstract = not PLAN
    pool_manager = CONNECTIONS

    @task
    def send(self) -> None:
        index, count, sent = getattr(self.environment.runner, "worker_index", 0), SETTINGS.get("processes", 1), Group()
        started = time.perf_counter() + LEAD_SECONDS
        for number in range(index, len(PLAN), count):
            row = PLAN[number]
            gevent.sleep(max(0.0, started + row["at"] - time.perf_counter()))
            path, body = (row["path"], row["body"]) if "body" in row else request_of(number)
            facts = {name: row[name] for name in ("rate", "step") if name in row}
            sent.spawn(ask, self.client, path, body, started + row["at"], **facts)
        sent.join()
        raise StopUser
