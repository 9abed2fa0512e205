"""`tunegate check --show`: a row as training will see it, the loss marked."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from tests.paths import ROOT
from tunegate import app

pytestmark = pytest.mark.unit
CHAT = [
    {"role": "user", "content": "film?"},
    {"role": "assistant", "content": "good", "weight": 0},
    {"role": "user", "content": "why?"},
    {"role": "assistant", "content": "bad"},
]
ROWS: dict[str, tuple[str, dict[str, Any], list[str], str]] = {
    "chat": ("causal-lm", {"messages": CHAT}, ["bad<|im_end|>\n"], ""),
    "completion": ("causal-lm", {"prompt": "film", "completion": " good"}, [" good<|im_end|>"], ""),
    "text": ("causal-lm", {"text": "good film"}, ["good film<|im_end|>"], ""),
    "pair": ("dpo", {"messages": CHAT[2:], "rejected": "no"}, ["bad<|im_end|>\n"], "rejected: no"),
    "judged": ("dpo", {"messages": CHAT[2:], "desirable": True}, ["bad<|im_end|>\n"], "desirable: True"),
    "label": ("sequence-classification", {"text": "film", "label": "good"}, [], "good"),
    "tags": ("token-classification", {"tokens": ["Ann"], "tags": ["U-PER"]}, [], '["B-PER"]'),
}


@pytest.fixture
def write(checkout: Path, tiny_gpt: Path, tiny_bert: Path) -> Any:
    shutil.copytree(tiny_gpt, checkout / "tiny-gpt")
    shutil.copytree(tiny_bert, checkout / "tiny-bert")
    Path("gate.yaml").write_text("rules: [{rule: parity}]\n", encoding="utf8")

    def written(kind: str) -> str:
        task, row, _, _ = ROWS[kind]
        Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for _ in range(4)), encoding="utf8")
        run = {
            "name": "mine",
            "task": task,
            "base": {"path": "tiny-bert" if kind in ("label", "tags") else "tiny-gpt"},
            "train": {"max_steps": 1},
            "gate": "gate.yaml",
            "serving": {"max_model_len": 256},
        }
        data = {"source": "files", "files": ["rows.jsonl"]}
        if kind == "judged":
            run["train"] = {"max_steps": 1, "preference": {"method": "kto"}}
        Path("mine.yaml").write_text(yaml.safe_dump(run | {"data": data}), encoding="utf8")
        return "mine.yaml"

    return written


@pytest.mark.parametrize("kind", ROWS)
def test_what_carries_loss_is_marked(write: Any, kind: str) -> None:
    _, _, learnt, answer = ROWS[kind]
    found = CliRunner().invoke(app, ["check", write(kind), "--show", "2"])
    assert found.exit_code == 0 and found.output.count("mine: row rows-") == 2, found.output
    assert all(f"\u27e6{text}\u27e7" in found.output for text in learnt) and answer in found.output
    assert found.output.count("\u27e6") == 2 * len(learnt)
    rows = json.loads(CliRunner().invoke(app, ["check", "mine.yaml", "--show", "2", "--json"]).stdout)["mine"]
    assert [run["text"] for run in rows[0]["runs"] if run["loss"]] == learnt and len(rows) == 2
    assert rows[0]["answer"] == answer


def test_new_tokens_are_shown_as_one_each(write: Any) -> None:
    command = ["check", write("chat"), "--show", "1", "--json"]
    plain, added = (
        json.loads(CliRunner().invoke(app, [*command, *sets]).stdout)["mine"][0]["tokens"]
        for sets in ([], ["--set", "base.add_tokens=[film?]"])
    )
    assert added < plain


def test_without_tokenizer_or_readable_rows_it_says_so(write: Any) -> None:
    path = write("chat")
    Path("rows.jsonl").write_text('{"question": "a"}\n', encoding="utf8")
    found = CliRunner().invoke(app, ["check", path, "--show", "1"])
    assert found.exit_code != 0 and "no row can be read" in found.output + str(found.exception)
    text = Path(path).read_text(encoding="utf8").replace("path: tiny-gpt", "hub: a/b\n  revision: " + "a" * 40)
    Path(path).write_text(text, encoding="utf8")
    found = CliRunner().invoke(app, ["check", path, "--show", "1"])
    assert found.exit_code != 0 and "tokenizer is not here yet" in found.output + str(found.exception)


def test_it_loads_no_torch() -> None:
    code = "import sys, train.show_rows, transformers.utils.chat_template_utils; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT).stdout == "False\n"
