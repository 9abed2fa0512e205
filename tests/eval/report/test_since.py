"""What is another than it was of the champion."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from configs.release import Manifest
from configs.verdict import Binding, RuleResult, Verdict
from eval.report.since import Difference, Side, differences, flat, gate_words, read_side
from tests.support import judged

pytestmark = pytest.mark.unit
BINDING = Binding(release=judged.RELEASE, outcome="pass", gate="gate.yaml", gate_digest="g")
Write = Callable[..., Manifest]


def verdict_of(*rules: str, champion: str | None = judged.CHAMPION) -> Verdict:
    results = [RuleResult(rule=rule, outcome="pass", sentence="s") for rule in rules]
    return Verdict(release=judged.RELEASE, champion=champion, outcome="pass", results=results)


def side(manifest: Manifest, labels: dict[str, int] | None = None, *rules: str) -> Side:
    rows: Any = {"rows": sum(labels.values()), "labels": labels, "sources": {}} if labels else None
    return Side(manifest, rows, verdict_of(*rules))


def test_gate_config_data_and_versions_are_told_in_this_order(tmp_path: Path, write_release: Write) -> None:
    old, new = {"train": {"epochs": 2, "seed": 1}, "lint": {}}, {"train": {"epochs": 3, "seed": 1}, "name": "new"}
    rows, more = {"test_fingerprint": "sha256:rows"}, {"test_fingerprint": "sha256:more"}
    before = write_release(tmp_path / "a", config=old, versions={"vllm": "1"}, data=rows)
    now = write_release(tmp_path / "b", config=new, versions={"vllm": "2"}, data=more)
    found = differences(side(now, {"a": 5, "b": 2}, "new rule"), side(before, {"a": 5}, "old rule"))
    assert found == [
        Difference("gate", "rule", "(none)", "new rule"),
        Difference("gate", "rule", "old rule", "(none)"),
        Difference("config", "train.epochs", "2", "3"),
        Difference("data", "test rows", "sha256:rows", "sha256:more"),
        Difference("data", "train rows", "5", "7"),
        Difference("data", "train rows, label b", "(none)", "2"),
        Difference("versions", "vllm", "1", "2"),
    ]


def test_of_many_labels_the_smallest_and_the_largest_count_are_told(tmp_path: Path, write_release: Write) -> None:
    manifest = write_release(tmp_path / "a")
    old, new = dict.fromkeys("abcdef", 50), {name: 30 + place for place, name in enumerate("abcdef")}
    found = differences(side(manifest, new), side(manifest, old))
    assert [(one.what, one.before, one.now) for one in found] == [
        ("train rows", "300", "195"),
        ("train rows of 6 labels", "50 each", "30 to 35 each"),
    ]


def test_nothing_differs_from_itself_or_from_what_is_not_here(tmp_path: Path, write_release: Write) -> None:
    one = side(write_release(tmp_path / "a", config={"a": {"b": [1]}}), {"a": 1}, "rule")
    assert differences(one, one) == differences(one, Side(None, None, None)) == []


def test_whether_the_gate_is_the_champions_is_said(tmp_path: Path) -> None:
    now = verdict_of("a", "b")
    assert gate_words(now, verdict_of("b", "a")) == "the rules that the champion was judged by"
    assert (
        gate_words(now, verdict_of("a", "c", "d")) == "changed since the champion's verdict: 1 rule new, 2 rules gone"
    )
    one, same, other = (
        verdict.model_copy(update={"binding": BINDING.model_copy(update={"gate_digest": digest})})
        for verdict, digest in ((now, "g"), (verdict_of("a"), "g"), (now, "h"))
    )
    assert gate_words(one, same) == "unchanged since the champion's verdict", "the digest says it, not the names"
    assert gate_words(one, other) == "the same rules by name, with other settings than the champion's"
    assert "not here" in gate_words(now, None) and gate_words(verdict_of("a", champion=None), None) == ""


def test_what_cannot_be_read_is_not_here(tmp_path: Path, write_release: Write) -> None:
    assert read_side(tmp_path / "nowhere", None) == Side(None, None, None)
    write_release(tmp_path / "release")
    (tmp_path / "verdict.json").write_text("{torn")
    found = read_side(tmp_path / "release", tmp_path / "verdict.json")
    assert found.manifest is not None and found.rows is None and found.verdict is None


def test_a_key_that_says_nothing_is_no_key() -> None:
    assert dict(flat({"a": {"b": 1, "c": None}, "d": [], "e": [2], "f": False})) == {
        "a.b": "1",
        "e": "[2]",
        "f": "False",
    }
