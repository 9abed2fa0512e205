"""Rows go to processes and come back in order, none lost; one that its template refuses is named."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs.errors import InputError
from tests.paths import ROOT
from tests.support.prepared_rows import rules_for
from train.tokens import tokenize as module
from train.tokens.encode import Rules
from train.tokens.tokenize import Tokenized, join, result, tokenize, workers

pytestmark = pytest.mark.unit


def chat(text: str, role: str = "user") -> dict[str, Any]:
    return {"id": text, "messages": [{"role": role, "content": text}, {"role": "assistant", "content": "good"}]}


@pytest.fixture
def strict(tiny_gpt: Path, tmp_path: Path) -> Path:
    """A tokenizer whose template refuses a system turn, as Gemma's does."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tiny_gpt / name).read_bytes())
    stated = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf8"))
    stated.pop("chat_template", None)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(stated), encoding="utf8")
    refusal = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    turns = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    asks = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    (tmp_path / "chat_template.jinja").write_text(refusal + turns + asks, encoding="utf8")
    return tmp_path


def test_a_row_that_the_template_refuses_is_a_fault_of_that_row_alone(strict: Path) -> None:
    found = tokenize(rules_for("chat", strict), [chat("a"), chat("b", "system"), chat("c")])
    assert [row["id"] for row in found.rows] == ["a", "c"] and found.sources == [0, 2]
    ((index, fault),) = found.faults
    assert index == 1 and fault.kind == "template_error" and "System role not supported" in fault.found


@pytest.mark.parametrize(("train_on", "kept"), [("last", ["b"]), ("all", ["a", "b"])])
def test_a_row_without_a_turn_to_learn_is_a_fault(strict: Path, train_on: Any, kept: list[str]) -> None:
    """Its loss would be the mean of nothing."""
    skipped = chat("a") | {"messages": [*chat("a")["messages"], *chat("more")["messages"]]}
    skipped["messages"][-1]["train"] = False
    found = tokenize(rules_for("chat", strict)._replace(train_on=train_on), [skipped, chat("b")])
    assert [row["id"] for row in found.rows] == kept
    assert [(index, fault.kind) for index, fault in found.faults] == [(0, "no_target_tokens")] * (2 - len(kept))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=20)
@given(st.lists(st.sampled_from(["user", "system"]), min_size=1, max_size=12), st.integers(1, 5))
def test_pieces_joined_are_the_whole(strict: Path, roles: list[str], size: int) -> None:
    rows, rules = [chat(str(number), role) for number, role in enumerate(roles)], rules_for("chat", strict)
    whole = tokenize(rules, rows)
    starts = [0, *range(1, len(rows), size)]  # the first piece is of one row
    ends = [*starts[1:], len(rows)]
    joined = join([tokenize(rules, rows[start:end]) for start, end in zip(starts, ends, strict=True)])
    assert joined.asked == whole.asked == len(rows)
    assert joined.sources == whole.sources and joined.rows == whole.rows and joined.faults == whole.faults
    assert joined.tokens.to_pylist() == whole.tokens.to_pylist() and joined.prompts == whole.prompts


@pytest.mark.parametrize(("rows_alone", "characters_alone"), [(4, 10**9), (1000, 100)])
def test_processes_make_what_one_makes(
    tiny_gpt: Path, monkeypatch: pytest.MonkeyPatch, rows_alone: int, characters_alone: int
) -> None:
    """Where rows are many, and where they are few and long."""
    monkeypatch.setattr(module, "ALONE", rows_alone)
    monkeypatch.setattr(module, "ALONE_CHARACTERS", characters_alone)
    monkeypatch.setattr(module, "CHUNK", 7)
    monkeypatch.setattr(module, "cores", lambda: 2)
    rows, rules = [chat(f"film {number}") for number in range(30)], rules_for("chat", tiny_gpt)
    with workers(rules) as pool:
        begun = pool.begin(rows)
        assert not isinstance(begun, Tokenized) and len(begun) > 3, "by processes, with work for all of them"
        assert isinstance(pool.begin(rows[:2]), Tokenized), "what is little is done with before a process has started"
        found = result(begun)
    assert found.tokens.to_pylist() == tokenize(rules, rows).tokens.to_pylist() and found.rows == rows


def test_a_folder_without_tokenizer_is_said_before_a_process_starts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tokenizer\.json: missing"), workers(rules_for("label", tmp_path)):
        pass


@pytest.mark.integration
def test_killed_it_leaves_no_process_behind(tiny_gpt: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from train.tokens.encode import Rules\n"
        "from train.tokens import tokenize as module\n"
        "if __name__ == '__main__':\n"
        "    module.ALONE = 1; module.cores = lambda: 2\n"
        f"    rules = Rules(Path({str(tiny_gpt)!r}), 'label', 'all', 'refuse', 1000)\n"
        "    pool = module.Workers(rules); module.result(pool.begin([{'text': 'a'}] * 5000))\n"
        "    print(*pool.pool._processes, flush=True); time.sleep(60)\n"
    )
    script = tiny_gpt.parent / "tokenizing.py"
    script.write_text(code, encoding="utf8")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        children = [int(one) for one in process.stdout.readline().split()]
        assert children and all(Path(f"/proc/{one}").exists() for one in children)
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(is_running(one) for one in children):
        time.sleep(0.1)
    assert not any(is_running(one) for one in children)


def is_running(process: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{process}/stat").read_text(encoding="utf8")
    except OSError:
        return False


def test_a_rule_of_tokens_can_be_sent_to_a_process(tmp_path: Path) -> None:
    import pickle

    rules = Rules(tmp_path, "chat", "last", "chunk", 9)
    assert pickle.loads(pickle.dumps(rules)) == rules
