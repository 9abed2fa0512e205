"""What the clients of a switch call completed, and what cut."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.serve.switches import body_of, outcome_of

pytestmark = pytest.mark.unit
DONE = b"data: [DONE]\n"


def line(text: str = "", reason: str | None = None) -> bytes:
    choice: dict[str, Any] = {"delta": {"content": text}, "finish_reason": reason}
    return b"data: " + json.dumps({"choices": [choice], "system_fingerprint": "vllm"}).encode() + b"\n"


@pytest.mark.parametrize(
    ("lines", "outcome"),
    [
        ([line("a"), line("b", "length"), DONE], "completed"),
        ([line("a"), line("b", "length")], "cut"),
        ([line("a"), line("b"), DONE], "cut"),
        ([DONE], "cut"),
        ([], "cut"),
    ],
)
def test_a_stream_is_whole_with_its_reason_and_its_end_mark(lines: list[bytes], outcome: str) -> None:
    assert outcome_of(lines, "stream")["outcome"] == outcome


def test_a_probe_keeps_its_text_and_is_greedy() -> None:
    usage = b'data: {"choices": [], "system_fingerprint": "vllm"}\n'
    found = outcome_of([line("a"), line("b", "length"), usage, DONE], "probe")
    assert found == {"outcome": "completed", "text": "ab", "fingerprints": ["vllm"]}
    assert outcome_of([line("a")], "stream")["text"] is None
    assert body_of("m", "q", 8, "probe")["temperature"] == 0 and "temperature" not in body_of("m", "q", 8, "stream")
