"""What a key used is written down as the server counted it, and clients see nothing that they did not ask for."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.vllm.usage import Meter, Metered, without_usage

pytestmark = pytest.mark.unit
CHAT = "/v1/chat/completions"


def usage(prompt: int, written: int) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "total_tokens": prompt + written, "completion_tokens": written}


def chunk(index: int | None, text: str, count: dict[str, Any] | None) -> bytes:
    """As vLLM writes an event."""
    choices = [] if index is None else [{"index": index, "delta": {"content": text}, "finish_reason": None}]
    event: dict[str, Any] = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m", "choices": choices}
    event |= {"usage": count} if count else {}
    return b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"


def ask(
    folder: Path, messages: list[bytes], body: dict[str, Any], *, path: str = CHAT, key: str = "team", leaves: int = 0
) -> list[bytes]:
    """One request through the middleware; what its client got. `leaves`: after so many messages it is gone."""
    stream = bool(body.get("stream"))
    got: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        kind = b"text/event-stream; charset=utf-8" if stream else b"application/json"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        for number, one in enumerate(messages, 1):
            await send({"type": "http.response.body", "body": one, "more_body": stream or number < len(messages)})
            if number == leaves:
                raise asyncio.CancelledError
        if stream:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            got.append(message["body"])

    meter = Meter(app, {"folder": str(folder), "slot": "blue", "release": "a@sha256:1"})
    headers = [(b"x-request-id", b"r1"), *([(b"x-tunegate-key", key.encode())] if key else [])]
    scope = {"type": "http", "path": path, "method": "POST", "headers": headers}
    try:
        asyncio.run(meter(scope, receive, send))
    except asyncio.CancelledError:
        assert leaves
    meter.writer.waiting.join()
    return got


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]


def test_an_answer_in_one_piece_or_in_many_is_counted_once(tmp_path: Path) -> None:
    text = 'he said "usage":{"prompt_tokens":999} and went'
    answer = {"choices": [{"index": 0, "message": {"content": text}}], "usage": usage(7, 5) | {"prompt_details": {}}}
    whole = json.dumps(answer, separators=(",", ":")).encode()
    for pieces in ([whole], [whole[:50], whole[50:90], whole[90:]], [bytes([byte]) for byte in whole]):
        assert b"".join(ask(tmp_path, pieces, {"n": 1})) == whole
    found = rows(tmp_path)
    assert [(row["prompt_tokens"], row["completion_tokens"], row["ended"]) for row in found] == [(7, 5, True)] * 3
    assert {(row["key"], row["release"], row["request_id"], row["path"]) for row in found} == {
        ("team", "a@sha256:1", "r1", CHAT)
    }


STREAM = [
    chunk(0, "", usage(7, 0)),
    chunk(0, 'a "usage":{', usage(7, 1)),
    chunk(1, "b", usage(7, 2)),
    chunk(0, "c", usage(7, 3)),
    chunk(None, "", usage(7, 5)),
    b"data: [DONE]\n\n",
]
BARE = [chunk(0, "", None), chunk(0, 'a "usage":{', None), chunk(1, "b", None), chunk(0, "c", None)]


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ({}, [*BARE, b"data: [DONE]\n\n"]),
        ({"stream_options": {"include_usage": False}}, [*BARE, b"data: [DONE]\n\n"]),
        ({"stream_options": None}, [*BARE, b"data: [DONE]\n\n"]),
        ({"stream_options": {"include_usage": True}}, [*BARE, *STREAM[4:]]),
        ({"stream_options": {"include_usage": True, "continuous_usage_stats": True}}, STREAM),
    ],
)
def test_a_streams_client_sees_the_usage_that_it_asked_for_and_its_total_is_counted(
    tmp_path: Path, options: dict[str, Any], seen: list[bytes]
) -> None:
    for messages in (STREAM, [b"".join(STREAM)]):
        assert b"".join(ask(tmp_path, messages, {"stream": True, "n": 2} | options)) == b"".join(seen)
    assert [(row["prompt_tokens"], row["completion_tokens"]) for row in rows(tmp_path)] == [(7, 5)] * 2


def test_of_a_stream_that_its_client_left_what_came_is_counted_choice_by_choice(tmp_path: Path) -> None:
    ask(tmp_path, STREAM, {"stream": True, "n": 2}, leaves=4)
    (row,) = rows(tmp_path)
    assert (row["prompt_tokens"], row["completion_tokens"], row["ended"]) == (7, 5, False), "three and two"


@given(st.lists(st.tuples(st.integers(0, 3), st.text(max_size=20), st.integers(0, 10**6)), max_size=20), st.booleans())
def test_whatever_is_written_the_client_gets_it_without_the_servers_flag(
    parts: list[tuple[int, str, int]], at_end: bool
) -> None:
    for index, text, count in parts:
        given_usage, bare = chunk(index, text, usage(count, count)), chunk(index, text, None)
        assert without_usage(given_usage, at_end, always=False) == bare
        assert without_usage(bare, at_end, always=False) == bare
        one = Metered("k", CHAT, None, "r", "blue", streams=True)
        one.note(given_usage)
        assert one.row()["completion_tokens"] == count
    last = chunk(None, "", usage(1, 2))
    assert without_usage(last, at_end, always=False) == (last if at_end else b"")


def test_labels_embeddings_and_responses_are_counted_by_their_own_names(tmp_path: Path) -> None:
    ask(tmp_path, [b'{"data":[{"label":"x"}],"usage":{"prompt_tokens":4,"total_tokens":4}}'], {}, path="/classify")
    ask(tmp_path, [b'{"output":[],"usage":{"input_tokens":6,"output_tokens":2}}'], {}, path="/v1/responses")
    event = b'event: response.completed\ndata: {"response":{"usage":{"input_tokens":6,"output_tokens":3}}}\n\n'
    assert ask(tmp_path, [event], {"stream": True}, path="/v1/responses")[0] == event
    found = sorted((row["prompt_tokens"], row["completion_tokens"]) for row in rows(tmp_path))
    assert found == [(4, 0), (6, 2), (6, 3)]


def test_what_has_no_key_or_is_no_such_path_is_nobodys(tmp_path: Path) -> None:
    answer = b'{"usage":{"prompt_tokens":4}}'
    ask(tmp_path, [answer], {}, key="")
    ask(tmp_path, [answer], {}, path="/v1/models")
    assert rows(tmp_path) == []


def test_a_full_disk_loses_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, write = tmp_path / "usage", os.write
    full = [True]
    monkeypatch.setattr("infra.vllm.usage.os.write", lambda where, line: write(where, line[:9] if full[0] else line))
    monkeypatch.setattr("infra.vllm.usage.time.sleep", lambda seconds: full.clear() or full.append(False))
    ask(folder, [b'{"usage":{"prompt_tokens":4}}'], {})
    deadline = time.monotonic() + 10
    while not rows(folder) and time.monotonic() < deadline:
        pass
    assert [row["prompt_tokens"] for row in rows(folder)] == [4]
