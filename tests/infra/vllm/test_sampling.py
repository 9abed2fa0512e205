"""Sampling: every message goes through at once and unchanged whatever becomes of the sample, and what is written is
what was said, redacted."""

from __future__ import annotations

import asyncio
import json
import queue
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import infra.vllm.sampling
from configs.environment.config import DeployConfig
from infra.vllm.sampling import MOST_BYTES, Sampler, SamplerSettings, Writer, read_answer, sampling_of
from serve.load.samples import read_trace

pytestmark = pytest.mark.unit
CHAT = "/v1/chat/completions"
QUESTION = json.dumps(
    {"model": "m", "messages": [{"role": "user", "content": "I am ann@example.org"}], "stream": True}
).encode()
EVENTS = [
    b'data: {"choices": [{"delta": {"content": "%s"}, "finish_reason": null}]}\n\n' % part
    for part in (b"call", b" +14155552671")
]
EVENTS += [
    b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n',
    b'data: {"choices": [], "usage": {"completion_tokens": 2}}\n\ndata: [DONE]\n\n',
]


def chosen(folder: Path, **facts: Any) -> SamplerSettings:
    found: Any = {
        "share": 1.0,
        "redact": True,
        "patterns": {},
        "queue": 64,
        "file_mebibytes": 1,
        "files": 3,
        "folder": str(folder),
        "slot": "blue",
    } | facts
    return cast(SamplerSettings, found)


def exchange(
    sampler: Any, chunks: list[bytes], path: str = CHAT, question: bytes = QUESTION, scope: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    """One request by hand; the messages that the client got."""
    got: list[dict[str, Any]] = []
    parts = [question[:10], question[10:]]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: Any) -> None:
        got.append(dict(message))

    asyncio.run(
        sampler({"type": "http", "path": path, "headers": [(b"x-request-id", b"r1")]} | (scope or {}), receive, send)
    )
    return got


def app_of(
    chunks: list[bytes],
    heard: list[bytes] | None = None,
    after: Callable[[int], None] = lambda number: None,
    status: int = 200,
) -> Any:
    """An application that reads its whole question and says `chunks`; `after` is called when each has been sent."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        more = scope["type"] == "http"
        while more:
            message = await receive()
            more = message["more_body"]
            (heard if heard is not None else []).append(message["body"])
        await send({"type": "http.response.start", "status": status, "headers": []})
        for number, chunk in enumerate(chunks):
            await send({"type": "http.response.body", "body": chunk, "more_body": number < len(chunks) - 1})
            after(number)

    return app


def rows(sampler: Sampler) -> list[Any]:
    assert sampler.writer is not None
    sampler.writer.waiting.join()
    return read_trace(sampler.writer.folder)


def test_of_a_server_that_both_slots_live_in_each_slots_samples_lie_in_its_own_files(tmp_path: Path) -> None:
    sampler = Sampler(app_of(EVENTS), chosen(tmp_path))
    exchange(sampler, EVENTS)
    exchange(sampler, EVENTS, path=f"/slots/green/two@0123456789ab{CHAT}")
    assert [row["path"] for row in rows(sampler)] == [CHAT, CHAT], "the router's path, as a trace replays it"
    assert sorted(path.name.partition("-")[0] for path in tmp_path.glob("*.jsonl")) == ["blue", "green"]


def test_a_stream_is_written_as_what_was_asked_and_said_without_what_names_a_person(tmp_path: Path) -> None:
    sampler = Sampler(app_of(EVENTS), chosen(tmp_path))
    exchange(sampler, EVENTS)
    (row,) = rows(sampler)
    assert (
        row["path"] == CHAT
        and row["body"]["messages"][0]["content"] == "I am [email]"
        and row["body"]["stream"] is True
    )
    assert row["answer"] == {"text": "call [phone]", "finish_reason": "stop", "tokens": 2} and row["redactions"] == 2
    assert (row["status"], row["request_id"]) == (200, "r1") and 0 <= row["first_seconds"] <= row["seconds"]
    (path,) = tmp_path.glob("*.jsonl")
    assert (
        stat.S_IMODE(path.stat().st_mode) == 0o600
        and json.loads((tmp_path / "blue.counts.json").read_text())["written"] == 1
    )


def test_each_chunk_is_with_the_client_before_the_server_makes_the_next(tmp_path: Path) -> None:
    """Lockstep, which no clock can blur: when the application has sent a chunk, the client has that chunk and no
    other."""
    got: list[bytes] = []
    seen: list[list[bytes]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": QUESTION, "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            got.append(message["body"])

    sampler = Sampler(app_of(EVENTS, after=lambda number: seen.append(list(got))), chosen(tmp_path))
    asyncio.run(sampler({"type": "http", "path": CHAT, "headers": []}, receive, send))
    assert seen == [EVENTS[: number + 1] for number in range(len(EVENTS))]


@given(
    st.lists(st.binary(max_size=40), min_size=1, max_size=8),
    st.binary(min_size=10, max_size=200),
    st.sampled_from([200, 400, 500]),
)
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_bytes_are_both_sides_get_them_unchanged(
    tmp_path: Path, chunks: list[bytes], question: bytes, status: int
) -> None:
    heard: list[bytes] = []
    plain, sampled = app_of(chunks, status=status), Sampler(app_of(chunks, heard, status=status), chosen(tmp_path))
    assert (
        exchange(sampled, chunks, question=question) == exchange(plain, chunks, question=question)
        and b"".join(heard) == question
    )


def test_a_full_queue_or_an_answer_too_long_is_dropped_and_counted_and_nobody_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Writer, "work", lambda self: None)  # a writer that has stopped for good
    sampler = Sampler(app_of(EVENTS), chosen(tmp_path, queue=2))
    for _ in range(5):
        assert len(exchange(sampler, EVENTS)) == 1 + len(EVENTS)
    assert sampler.writer is not None and sampler.writer.counts["dropped"] == 3 and sampler.writer.waiting.qsize() == 2
    long = [b"x" * (MOST_BYTES // 2 + 1)] * 3
    sampler.app, sampler.writer.waiting = app_of(long), queue.Queue(9)
    assert sum(len(message.get("body", b"")) for message in exchange(sampler, long)) == 3 * len(long[0])
    assert sampler.writer.counts["dropped"] == 4 and sampler.writer.waiting.empty()


def test_a_disk_that_cannot_be_written_costs_samples_and_no_answer(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    sampler = Sampler(app_of(EVENTS), chosen(tmp_path / "file"))
    assert len(exchange(sampler, EVENTS)) == 1 + len(EVENTS) == len(exchange(sampler, EVENTS))
    assert sampler.writer is not None
    sampler.writer.waiting.join()
    assert sampler.writer.counts == {"written": 0, "dropped": 2, "unreadable": 0}


def test_what_is_no_json_is_counted_and_the_next_is_written(tmp_path: Path) -> None:
    sampler = Sampler(app_of(EVENTS), chosen(tmp_path))
    exchange(sampler, EVENTS, question=b"not a question, and no JSON")
    exchange(sampler, EVENTS)
    assert len(rows(sampler)) == 1 and sampler.writer is not None and sampler.writer.counts["unreadable"] == 1


def test_an_application_that_fails_fails_as_before_and_half_an_answer_is_no_sample(tmp_path: Path) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": EVENTS[0], "more_body": True})
        raise ConnectionResetError("the client left")

    sampler = Sampler(app, chosen(tmp_path))
    with pytest.raises(ConnectionResetError, match="the client left"):
        exchange(sampler, [])
    assert sampler.writer is not None and sampler.writer.waiting.empty() and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("facts", [{"path": "/health"}, {"path": "/metrics"}, {"scope": {"type": "lifespan"}}])
def test_only_questions_to_the_model_are_sampled(tmp_path: Path, facts: dict[str, Any]) -> None:
    sampler = Sampler(app_of([b"ok"]), chosen(tmp_path))
    assert len(exchange(sampler, [b"ok"], **facts)) == 2
    assert sampler.writer is not None and sampler.writer.waiting.empty() and list(tmp_path.iterdir()) == []


def test_the_share_is_of_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draws = iter([0.1, 0.9, 0.29, 0.31])
    monkeypatch.setattr(infra.vllm.sampling, "random", SimpleNamespace(random=lambda: next(draws)))
    sampler = Sampler(app_of(EVENTS), chosen(tmp_path, share=0.3))
    for _ in range(4):
        exchange(sampler, EVENTS)
    assert len(rows(sampler)) == 2


def test_files_are_bounded_and_the_oldest_goes(tmp_path: Path) -> None:
    big = [json.dumps({"choices": [{"message": {"content": "x" * 600_000}, "finish_reason": "stop"}]}).encode()]
    sampler = Sampler(app_of(big), chosen(tmp_path, files=2))
    for number in range(5):
        exchange(sampler, big, question=json.dumps({"number": number, "pad": "  "}).encode())
    assert [row["body"]["number"] for row in rows(sampler)] == [3, 4] and len(list(tmp_path.glob("blue-*.jsonl"))) == 2


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (
            '{"choices": [{"message": {"content": "a"}, "finish_reason": "length"}], '
            '"usage": {"completion_tokens": 7}}',
            ("a", "length", 7),
        ),
        ('{"choices": [{"text": "b", "finish_reason": "stop"}]}', ("b", "stop", None)),
        (
            'data: {"choices": [{"text": "c"}]}\n\n'
            'data: {"choices": [{"text": "d", "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n',
            ("cd", "stop", None),
        ),
        (
            '{"choices": [{"message": {"content": null, "tool_calls": [{"function": {"arguments": "{}"}}]}}]}',
            ("{}", None, None),
        ),
        ("data: [DONE]\n\n", ("", None, None)),
    ],
)
def test_an_answer_is_read_streamed_or_whole(text: str, answer: tuple[Any, ...]) -> None:
    assert read_answer(text) == dict(zip(("text", "finish_reason", "tokens"), answer, strict=True))
    assert read_answer('{"data": [{"probs": [1.0]}]}') == {"json": {"data": [{"probs": [1.0]}]}}


def test_off_means_no_middleware_at_all_and_a_shadow_turns_it_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def told(**facts: Any) -> SamplerSettings | None:
        return sampling_of(
            DeployConfig.model_validate({"name": "x", "model": "m", "state_dir": "state", **facts}), "green"
        )

    assert told() is None
    found = told(shadow={"share": 0.4}, sampling={"share": 0.1})
    assert found is not None and (found["share"], found["slot"], found["folder"], found["redact"]) == (
        0.4,
        "green",
        str(tmp_path / "state/samples"),
        True,
    )
    assert set(found) == set(chosen(tmp_path)), "what the slot is told is what the middleware reads"


def test_without_settings_it_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(infra.vllm.sampling.VARIABLE, raising=False)
    sampler = Sampler(app_of([b"ok"]))
    assert sampler.writer is None and len(exchange(sampler, [b"ok"])) == 2
