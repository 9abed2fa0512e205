"""ASGI middleware inside vLLM: one model name for all, whichever unmerged LoRA adapter answers.

vLLM knows an adapter by a name of its own, NAME@DIGEST12: so no two releases share its prefix cache
(vllm/v1/core/kv_cache_utils.py). Applications know the model's name only. What is asked of it goes to the adapter that
the server was started with, or to the one that the path names (`/slots/SLOT/ADAPTER/v1/…`, written by the router and by
our own probes); answers bear the model's name again. An adapter cannot be asked for by its own. Loaded by vLLM's
`--middleware infra.vllm.adapter_names.Adapters`, so it needs nothing but the standard library.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

VARIABLE = "TUNEGATE_ADAPTER"
MIDDLEWARE = "infra.vllm.adapter_names.Adapters"
PREFIX = "/slots/"
LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"  # these name adapters, not the model
Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class Target:
    """What a path says: `slot` and `adapter` where it begins with them, and the rest, which is vLLM's own."""

    slot: str | None
    adapter: str | None
    path: str


def target_of(path: str) -> Target:
    parts = path.removeprefix(PREFIX).split("/", 2)
    return (
        Target(parts[0], parts[1], f"/{parts[2]}")
        if path.startswith(PREFIX) and len(parts) == 3
        else Target(None, None, path)
    )


def prefix_of(slot: str, adapter: str) -> str:
    """What goes before vLLM's own path."""
    return f"{PREFIX}{slot}/{adapter}"


class Adapters:
    """The middleware. Its settings come by the environment, for vLLM gives none: {"model": the served name, "adapter":
    the one it was started with}."""

    def __init__(self, app: App, settings: dict[str, str] | None = None) -> None:
        self.app = app
        chosen = settings if settings is not None else json.loads(os.environ[VARIABLE])
        self.model, self.adapter = chosen["model"], chosen["adapter"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        target = target_of(scope["path"])
        here = {**scope, "path": target.path, "raw_path": target.path.encode()}
        if scope["method"] != "POST" or target.path in (LOAD, UNLOAD):
            return await self.app(here, receive, send)
        asked = await read_body(receive)
        if asked is None:  # the caller has gone
            return
        body, wanted = renamed(asked, self.model, adapter := target.adapter or self.adapter)
        if wanted is not None:
            return await refuse(send, wanted)
        here["headers"] = with_length(scope["headers"], len(body))
        await self.app(here, once(body, receive), Renaming(send, adapter, self.model))


async def read_body(receive: Receive) -> bytes | None:
    """All of it, for its first key may be the model's; None where the connection ends before. The router bounds its
    size."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def renamed(body: bytes, model: str, adapter: str) -> tuple[bytes, str | None]:
    """The body with the adapter's name for the model's, or for none; and the name asked for, where that is neither.

    What is no JSON object goes on as it is: vLLM refuses it. What had a key twice has it once, so that nobody reads the
    other one.
    """
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        return body, None
    if not isinstance(asked, dict):
        return body, None
    wanted = asked.get("model")
    if wanted not in (None, "", model):
        return body, str(wanted)
    return json.dumps(asked | {"model": adapter}).encode(), None


async def refuse(send: Send, wanted: str) -> None:
    """As vLLM answers for a model that it does not know."""
    error = {"message": f"The model `{wanted}` does not exist.", "type": "NotFoundError", "param": "model", "code": 404}
    body = json.dumps({"error": error}).encode()
    await send(
        {
            "type": "http.response.start",
            "status": 404,
            "headers": with_length([(b"content-type", b"application/json")], len(body)),
        }
    )
    await send({"type": "http.response.body", "body": body})


def with_length(headers: Any, length: int) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name != b"content-length"] + [
        (b"content-length", str(length).encode())
    ]


def once(body: bytes, receive: Receive) -> Receive:
    """The body in one message; after it whatever the server has to say, such as that the caller has gone."""
    waiting = [body]

    async def again() -> Message:
        return {"type": "http.request", "body": waiting.pop(), "more_body": False} if waiting else await receive()

    return again


class Renaming:
    """The model's name for the adapter's in what is answered. vLLM writes compact JSON and whole events, and within a
    string a quote is escaped:

    these bytes stand where the key does, and nowhere else.
    """

    def __init__(self, send: Send, adapter: str, model: str) -> None:
        self.send = send
        self.old, self.new = f'"model":"{adapter}"'.encode(), f'"model":{json.dumps(model)}'.encode()
        self.start: Message | None = None

    async def __call__(self, message: Message) -> None:
        """A start that states a length waits for the body, whose length changes; a stream's goes on at once."""
        if message["type"] == "http.response.start" and any(
            name == b"content-length" for name, _ in message["headers"]
        ):
            self.start = message
            return
        if message["type"] == "http.response.body" and self.old in message.get("body", b""):
            message = {**message, "body": message["body"].replace(self.old, self.new)}
        if self.start is not None and message["type"] == "http.response.body":
            start, self.start = self.start, None
            if not message.get("more_body", False):
                start = {**start, "headers": with_length(start["headers"], len(message.get("body", b"")))}
            await self.send(start)
        await self.send(message)
