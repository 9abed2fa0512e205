"""vLLM's sleep mode over one path of ours: its server gives its GPU memory back, keeps its weights in the host's, and
is awake again in seconds.

vLLM's own routes for it come with its development server (VLLM_SERVER_DEV_MODE), which also runs whatever code it is
sent (/collective_rpc). So an ASGI middleware asks the engine instead. It is loaded by vLLM's `--middleware
infra.vllm.sleep.Sleep` and needs nothing but the standard library.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

MIDDLEWARE = "infra.vllm.sleep.Sleep"
PATH = "/tunegate/sleep"  # not one of the router's paths: only whoever reaches the server itself can ask
LEVEL = 1  # weights to the host's memory, the key-value cache away (vllm/v1/engine/core.py, EngineCore.sleep)
Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Sleep:
    """The middleware. POST lays to sleep, DELETE wakes, each of them may be repeated; all answer {"asleep": bool}."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self.app, self.turn = app, asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH:
            return await self.app(scope, receive, send)
        engine = scope["app"].state.engine_client
        try:
            async with self.turn:
                if scope["method"] == "POST" and not await engine.is_sleeping():
                    await engine.sleep(LEVEL)
                if scope["method"] == "DELETE" and await engine.is_sleeping():
                    await engine.wake_up()
                status, said = 200, {"asleep": await engine.is_sleeping()}
        except Exception as error:  # vLLM's own, of any kind: who asked is told
            status, said = 500, {"error": f"{type(error).__name__}: {error}"}
        body = json.dumps(said).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
