"""A model server without a model: streams words at a fixed pace, for what stands in front of it to be measured.

.venv/bin/python -m benchmarks.serve.streams_server PORT NAME
"""

from __future__ import annotations

import asyncio
import json
import sys

from aiohttp import web


def chunk(name: str, word: str | None) -> bytes:
    delta, reason = ({"content": word}, None) if word is not None else ({}, "stop")
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return b"data: " + json.dumps({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": name, "choices": [choice]}).encode() + b"\n\n"


def make_app(name: str) -> web.Application:
    """`max_tokens` words, one every `gap_seconds` of the body (0 where it names none)."""

    async def chat(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        words, gap = int(body.get("max_tokens") or 4), float((body.get("metadata") or {}).get("gap_seconds", 0))
        reply = web.StreamResponse(headers={"Content-Type": "text/event-stream", "x-served-by": name})
        await reply.prepare(request)
        for number in range(words):
            await reply.write(chunk(name, f" {number}"))
            await asyncio.sleep(gap)
        await reply.write(chunk(name, None) + b"data: [DONE]\n\n")
        return reply

    async def models(request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "assistant", "object": "model", "created": 0, "owned_by": "bench"}]})

    async def healthy(request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.add_routes([web.post("/v1/chat/completions", chat), web.get("/v1/models", models), web.get("/health", healthy)])
    return app


if __name__ == "__main__":
    web.run_app(make_app(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
