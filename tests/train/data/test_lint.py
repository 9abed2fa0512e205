"""Every fault is named with its row, none is invented, and what happens to the row is what the config says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import RefusedError
from configs.rows.lint import Lint
from configs.run.config import RunConfig
from tests.paths import ROOT
from train.check_data import check_rows
from train.data.findings import SHOWN, record_findings
from train.data.lint import first_of, make_personal_data_check, mojibake_of
from train.sources.sentiment import read_sentiment
from train.sources.source import Fault

pytestmark = pytest.mark.unit
NODE_MODULES = ROOT / "infra/npm/node_modules"
GOOD_TEXTS = ("café", "don\u2019t", "Привет", "😀")
Findings = list[dict[str, Any]]


@pytest.fixture
def check(checkout: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Findings]:
    """All findings of given splits, read from lint.jsonl."""
    monkeypatch.setenv("TUNEGATE_NODE_MODULES", str(NODE_MODULES))
    tokenizer.save_pretrained("build/base/tiny")

    def run(**parts: list[str]) -> Findings:
        for name, lines in parts.items():
            Path(f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf8")
        data: dict[str, Any] = {
            "source": "files",
            "files": ["train.jsonl"],
            "validation_files": ["validation.jsonl"],
            "test_files": ["test.jsonl"],
        }
        data |= {"split": {"method": "given"}, "labels": ["negative", "neutral", "positive"], "max_tokens": 800}
        sections: dict[str, Any] = {
            "name": "x",
            "task": "sequence-classification",
            "base": {"path": "tiny"},
            "train": {"max_steps": 1},
            "gate": "g",
        }
        check_rows(RunConfig.model_validate(sections | {"data": data, "serving": {"max_model_len": 800}}))
        return [json.loads(line) for line in Path("build/x/lint.jsonl").read_text(encoding="utf8").splitlines()]

    return run


def clean_parts(check: Callable[..., Findings]) -> dict[str, list[str]]:
    """The real sentiment set without its own faults (windows-1252 dashes, true duplicates, near ones), 1,000 rows of it
    as three splits."""
    rows = [row for batch in read_sentiment().batches() for row in batch.rows if isinstance(row, dict)][:1000]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    while True:
        parts = {"train": lines[:-200], "validation": lines[-200:-100], "test": lines[-100:]}
        own = {(finding["file"], finding["row"]) for finding in check(**parts)}
        if not own:
            return parts
        lines = [
            line
            for name, part in parts.items()
            for number, line in enumerate(part, 1)
            if (f"{name}.jsonl", number) not in own
        ]


def test_twelve_planted_faults_are_named_with_their_rows_and_the_clean_copy_has_none(
    check: Callable[..., Findings],
) -> None:
    parts = clean_parts(check)
    assert check(**parts) == [] and sum(map(len, parts.values())) > 900
    train = [json.loads(line) for line in parts["train"]]
    held_out = json.loads(parts["test"][7])["text"]
    planted: dict[str, tuple[int, dict[str, Any] | str]] = {
        "unreadable": (11, parts["train"][10][:-9]),
        "missing_field": (23, {"id": "p1", "text": "no label here at all"}),
        "empty_field": (37, {"id": "p2", "text": " \u200b ", "label": "positive"}),
        "unknown_label": (51, {"id": "p3", "text": "such a typing mistake", "label": "postive"}),
        "mojibake": (64, {"id": "p4", "text": "the cafÃ© was closed", "label": "negative"}),
        "repeated_id": (78, train[76] | {"text": "under a number that is taken", "label": "negative"}),
        "duplicate": (90, train[2] | {"id": "p5"}),
        "conflicting_answer": (
            105,
            train[3] | {"id": "p6", "label": {"positive": "negative", "negative": "positive"}[train[3]["label"]]},
        ),
        "too_long": (119, {"id": "p7", "text": "on and on it goes " * 80, "label": "negative"}),
        "near_duplicate": (131, train[4] | {"id": "p8", "text": train[4]["text"].upper() + " !!"}),
        "leakage": (147, {"id": "p9", "text": held_out.replace(".", " ..."), "label": "positive"}),
        "imbalance": (160, {"id": "p10", "text": "neither one nor the other, I would say", "label": "neutral"}),
    }
    lines = list(parts["train"])
    for row, value in planted.values():
        lines[row - 1] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    found = check(**(parts | {"train": lines}))
    places = {
        (kind, "all rows" if kind == "imbalance" else "train.jsonl", None if kind == "imbalance" else row)
        for kind, (row, _) in planted.items()
    }
    assert {(finding["kind"], finding["file"], finding["row"]) for finding in found} == places and len(found) == 12
    assert all(finding["found"] and finding["expected"] for finding in found)


@pytest.mark.parametrize(
    ("text", "misread"),
    [
        *((text.encode().decode("cp1252", errors="replace"), True) for text in GOOD_TEXTS),
        *((text, True) for text in ("a \ufffd b", "nul\x00", "a dash \x96 of Windows", "\x1b[0m")),
        *((text, False) for text in (*GOOD_TEXTS, "AÇÃO e NÃO", "tab\tand\r\nline", "À côté", "Ñandú")),
    ],
)  # fmt: skip
def test_misread_text_is_told_from_text_of_other_languages(text: str, misread: bool) -> None:
    assert (mojibake_of({"text": text}) is not None) == misread


@given(st.text(st.characters(codec="latin-1", categories=["Ll"]), min_size=1, max_size=5))
def test_every_misread_word_of_western_europe_shows(word: str) -> None:
    misread = word.encode().decode("cp1252", errors="replace")
    assert (mojibake_of({"text": misread}) is not None) == (misread != word)


def test_personal_data_is_found_without_a_model_and_without_a_network() -> None:
    check = make_personal_data_check()
    texts = ("write to ada@example.com", "card 4111 1111 1111 1111", "GB82 WEST 1234 5698 7654 32", "I paid 12 dollars")
    kinds = [fault.found.split()[0] if fault else None for fault in (check({"text": text}) for text in texts)]
    assert kinds == ["EMAIL_ADDRESS", "CREDIT_CARD", "IBAN_CODE", None]


@given(st.lists(st.integers(0, 5), max_size=30))
def test_each_row_knows_the_first_with_its_key(keys: list[int]) -> None:
    expected = [-1 if keys.index(key) == row else keys.index(key) for row, key in enumerate(keys)]
    assert first_of(numpy.array(keys, dtype="uint64")).tolist() == expected


def test_a_refusal_counts_lists_and_says_what_helps(tmp_path: Path) -> None:
    record = tmp_path / "lint.jsonl"
    with (
        pytest.raises(RefusedError) as caught,
        record_findings(Lint.model_validate({"too_long": "drop"}), record) as findings,
    ):
        for row in range(1, 10):
            findings.add("a.jsonl", row, Fault("duplicate", "x", "y"))
            findings.add("a.jsonl", row, Fault("too_long", "x", "y"))
        findings.refuse()
    message = str(caught.value)
    assert "9 duplicate" in message and f"and {9 - SHOWN} more" in message and "too_long" not in message
    assert "lint: {duplicate: drop}" in message and str(record) in message
    assert len(record.read_text().splitlines()) == 18, "the record lists what is dropped as well"


def test_where_dropping_would_leave_too_few_it_is_not_offered(tmp_path: Path) -> None:
    with record_findings(Lint(), tmp_path / "lint.jsonl") as findings:
        findings.add("a.jsonl", 1, Fault("duplicate", "x", "y"))
        findings.add("a.jsonl", 2, Fault("expectation", "x", "y"), "refuse")
        with pytest.raises(RefusedError, match=r"lint: \{duplicate: drop\}, or say under data: expect: another action"):
            findings.refuse()
        with pytest.raises(RefusedError) as caught:
            findings.refuse(droppable=False)
    assert "or say" not in str(caught.value) and "a.jsonl:2: expectation" in str(caught.value)


def test_of_each_kind_and_action_the_first_five_are_shown(tmp_path: Path) -> None:
    with record_findings(Lint(), tmp_path / "lint.jsonl") as findings:
        for row in range(1, 9):
            findings.add("a", row, Fault("expectation", "x", "y"), "keep")
        findings.add("a", 9, Fault("expectation", "x", "y"), "refuse")
    assert len(findings.lines()) == SHOWN + 2 and findings.lines("refuse") == ["a:9: expectation: found x, expected y"]
    assert findings.by_kind() == {"expectation": 9} and findings.by_kind("refuse", "drop") == {"expectation": 1}


def test_what_is_dropped_or_kept_refuses_nothing(tmp_path: Path) -> None:
    with record_findings(Lint.model_validate({"duplicate": "keep", "too_long": "drop"}), tmp_path / "x") as findings:
        assert findings.add("a", 1, Fault("duplicate", "x", "y")) is True
        assert findings.add("a", 1, Fault("too_long", "x", "y")) is False
        findings.refuse()
    assert {row["kind"]: row["count"] for row in findings.table() if row["count"]} == {"duplicate": 1, "too_long": 1}
