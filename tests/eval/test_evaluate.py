from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from configs.errors import OutsideError
from eval import evaluate

pytestmark = pytest.mark.unit


def test_killed_evaluation_asks_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def ask(client: Any, url: str, name: str, manifest: Any, row: dict[str, Any], **settings: Any) -> Any:
        if len(asked) == 3:
            raise OutsideError("killed")
        asked.append(row["id"])
        await asyncio.sleep(0)
        return evaluate.Answer("t", None, None, None, 0.1, 1)

    monkeypatch.setattr(evaluate, "ask", ask)
    rows = [{"id": str(i)} for i in range(6)]
    config = SimpleNamespace(evaluate=SimpleNamespace(concurrency=1, max_new_tokens=4))
    arguments = ("http://x", SimpleNamespace(name="m"), rows, config, tmp_path / "cache.jsonl")
    with pytest.raises(OutsideError):
        evaluate.ask_all(*arguments)
    with (tmp_path / "cache.jsonl").open("a") as stream:
        stream.write('{"id": "cut')
    kept, asked[:] = list(asked), []
    assert set(evaluate.ask_all(*arguments)) == {row["id"] for row in rows}
    assert len(kept) == len(asked) == 3 and not set(kept) & set(asked)
