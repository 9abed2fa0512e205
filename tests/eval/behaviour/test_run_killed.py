"""Questions of behaviour tests are asked once, kills or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from configs.errors import ExternalError
from configs.release import Manifest
from configs.run.evaluate import Evaluate
from eval.behaviour.run import make_asker
from eval.measure import answers
from eval.metrics.rows import Row
from infra.vllm.answer import Answer

pytestmark = pytest.mark.unit


def say(text: str) -> Answer:
    return Answer(text, None, None, None, 0.1, 3)


def test_a_killed_asker_goes_on_where_it_was(
    tmp_path: Path, write_release: Callable[..., Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    limits: Iterator[int] = iter([2, 99])
    limit = next(limits)

    async def fake(client: Any, url: str, name: str, manifest: Manifest, row: Row, **settings: Any) -> Answer:
        if len(asked) >= limit:
            raise ExternalError("killed")
        asked.append(row["id"])
        return say(row["text"])

    monkeypatch.setattr(answers, "ask", fake)
    ask = make_asker(
        "http://fake",
        "release",
        write_release(tmp_path / "release"),
        tmp_path / "release",
        tmp_path / "answers",
        Evaluate(concurrency=1),
    )
    rows = [{"id": f"shout/{place}", "text": f"WORD {place}"} for place in range(5)]
    with pytest.raises(ExternalError, match="killed"):
        ask(rows)
    limit = next(limits)
    assert [answer.text for answer in ask(rows)] == [row["text"] for row in rows] and asked == [
        row["id"] for row in rows
    ]
    assert [answer.text for answer in ask([*rows[:1], rows[1] | {"text": "other"}])] == ["WORD 0", "other"], (
        "another question is not answered from disk"
    )
    assert ask([]) == []
