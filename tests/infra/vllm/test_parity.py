"""Golden prompts of a release are asked by its own settings, also where an earlier version wrote its config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from configs.release import Manifest
from infra.vllm import parity
from infra.vllm.answer import Answer

pytestmark = pytest.mark.unit
# As f94eda2 wrote it: keys of `data` that have other names today.
OLD_CONFIG = {
    "name": "old",
    "data": {"source": "sentiment", "damage": "none", "lint": {"encoding_damage": "keep", "nothing_to_learn": "drop"}},
    "evaluate": {"max_new_tokens": 7, "parity": {"golden_prompts": 4, "min_agreement": 0.5, "max_difference": 0.1}},
}


def test_a_config_with_keys_of_an_earlier_version_is_asked_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    async def ask_all(url: str, name: str, manifest: Manifest, lines: list[Any], tokens: int, key: str | None) -> Any:
        asked.append(tokens)
        return [Answer(line["answer"], line["answer"], line["probs"], None, 0.1, 0) for line in lines]

    monkeypatch.setattr(parity, "ask_all", ask_all)
    lines = [{"id": name, "text": name, "answer": "good", "probs": {"good": 0.75}} for name in "ab"]
    (tmp_path / "golden.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf8")
    fields: Any = {"task": "sequence-classification", "config": OLD_CONFIG}
    found = parity.check_parity("http://x", "m", tmp_path, Manifest.model_construct(**fields))
    assert found.passed and found.agreement == 1.0 and asked == [7]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0c"])
def test_a_golden_prompt_may_hold_any_separator_of_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, separator: str
) -> None:
    asked: list[Any] = []

    async def ask_all(*arguments: Any) -> list[Answer]:
        asked.extend(arguments[3])
        return [Answer("a", None, None, 0.0, 0.0, 1)] * len(arguments[3])

    monkeypatch.setattr(parity, "ask_all", ask_all)
    line = {"id": "1", "prompt": f"a{separator}b", "answer": "a", "first_token_logprob": 0.0}
    (tmp_path / "golden.jsonl").write_text(json.dumps(line, ensure_ascii=False) + "\n", encoding="utf8")
    fields: Any = {"config": {}}
    assert parity.check_parity("http://x", "m", tmp_path, Manifest.model_construct(**fields)).prompts == 1
    assert asked == [line]
