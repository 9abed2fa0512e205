"""The application's own requests, asked straight at the slot before traffic: every line that is not met is named."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

from configs.environment.smoke import Expectation, SmokeConfig, SmokeRequest
from configs.errors import RefusedError
from configs.loader import load

LONGEST_SECONDS = 300.0
SHOWN = 120
Json = dict[str, Any]  # an answer, or a JSON Schema


def run_smoke(path: Path, base_url: str, model: str) -> dict[str, float]:
    """How many were asked and the slowest one. Raises RefusedError that names every request that failed, with what was
    found and expected."""
    import httpx

    requests = load(path, SmokeConfig).requests
    failed, slowest = [], 0.0
    with httpx.Client(base_url=base_url, timeout=LONGEST_SECONDS) as client:
        for number, request in enumerate(requests, 1):
            started = time.perf_counter()
            try:
                reply = client.post(request.path, json=request.body | {"model": model})
                seconds = time.perf_counter() - started
                problems = unmet(request.expect, reply.status_code, reply.text, seconds)
            except httpx.HTTPError as error:
                seconds, problems = time.perf_counter() - started, [f"no answer ({type(error).__name__})"]
            slowest = max(slowest, seconds)
            failed += [f"  {name_of(request, number)}: {problem}" for problem in problems]
    if failed:
        raise RefusedError(
            f"{path}: of {len(requests)} requests of the application's own not met:\n" + "\n".join(failed),
            hint=f"tunegate check {path}",
        )
    return {"smoke_requests": len(requests), "slowest_seconds": round(slowest, 3)}


def name_of(request: SmokeRequest, number: int) -> str:
    return request.name or f"request {number} ({request.path})"


def unmet(expect: Expectation, status: int, body: str, seconds: float) -> list[str]:
    """Pure. Each statement that does not hold, as found and expected; of an answer with the wrong status nothing else
    is asked."""
    if status != expect.status:
        return [f"found status {status} ({shorten(body)}), expected {expect.status}"]
    text = text_of(body)
    found = f"found {shorten(text)}"
    problems = (
        [f"took {seconds:.2f} s, expected at most {expect.max_seconds:g}"]
        if expect.max_seconds is not None and seconds > expect.max_seconds
        else []
    )
    if expect.contains is not None and expect.contains not in text:
        problems.append(f"{found}, expected it to contain {expect.contains!r}")
    if expect.regex is not None and not re.search(expect.regex, text):
        problems.append(f"{found}, expected it to match {expect.regex!r}")
    if expect.equals is not None and text.strip() != expect.equals.strip():
        problems.append(f"{found}, expected {expect.equals!r}")
    return problems + (schema_problems(text, expect.json_schema) if expect.json_schema is not None else [])


def text_of(body: str) -> str:
    """The content of a chat or completion, streamed or whole, a tool call's arguments among it; of anything else the
    body itself."""
    if body.startswith("data: "):
        return "".join(content(json.loads(line[6:])) for line in body.split("\n") if line.startswith("data: {"))
    try:
        reply = json.loads(body)
    except ValueError:
        return body
    return content(reply) if isinstance(reply, dict) and reply.get("choices") else body


def content(reply: Json) -> str:
    choices = reply.get("choices") or [{}]
    message = choices[0].get("message") or choices[0].get("delta") or {"content": choices[0].get("text")}
    calls = "".join(call["function"].get("arguments") or "" for call in message.get("tool_calls") or [])
    return (message.get("content") or "") + calls


def schema_problems(text: str, schema: Json) -> list[str]:
    from jsonschema import Draft202012Validator

    try:
        document = json.loads(text)
    except ValueError:
        return [f"found {shorten(text)}, expected JSON"]
    errors = sorted(Draft202012Validator(schema).iter_errors(document), key=lambda error: error.json_path)
    return [f"found {error.json_path}: {shorten(error.message)}, expected JSON of its json_schema" for error in errors]


def shorten(text: str) -> str:
    return repr(text if len(text) <= SHOWN else text[: SHOWN - 1] + "…")
