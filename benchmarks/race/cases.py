"""What each peer does with the project's hard rows and models, where their folder is at hand: ../shared/cases.

Each case by the smallest YAML that a user of the peer would write, one step of training; the words of the table are
made of what was fed to its Trainer, or of its last error. Without the folder the table stays as it is.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.prove import DOCUMENT, console, run, write_section
from benchmarks.race.peers import (
    CHAT,
    FOR_A_CPU,
    MESSAGES,
    NAMES,
    PEERS,
    TAGS,
    axolotl,
    llama_factory,
    run_inside,
    table,
    versions,
    write,
)

CASES = Path("../shared/cases").absolute()
FOLDER = Path("build/race/cases").absolute()
Rows = list[dict[str, dict[str, str]]]
ALPACA = {"ds_type": "json", "type": "alpaca"}
PAIRS = {"ds_type": "json", "type": "chat_template.default", "field_messages": "prompt"}
CSV = {"ds_type": "csv", "type": {"field_instruction": "text", "field_output": "label", "format": "{instruction}"}}
CSV_COLUMNS = {"columns": {"prompt": "text", "response": "label"}}
RANKING = {**MESSAGES, "ranking": True, "columns": {"messages": "prompt", "chosen": "chosen", "rejected": "rejected"}}


def with_text(rows: Rows, needle: str, where: str = "text") -> int:
    """Rows that hold these words, in all of their text or where the loss is."""
    return sum(any(needle in words for words in row[where].values()) for row in rows)


class Case(NamedTuple):
    """One file of rows or one model; what would be right; what to tell of the rows that were learnt."""

    name: str
    file: str
    right: str
    tell: Callable[[Rows], str] = lambda rows: ""
    weights: str = "ok"
    axolotl: dict[str, Any] | None = CHAT
    factory: dict[str, Any] | None = MESSAGES
    rl: str = ""


def count(needle: str, words: str, where: str = "text") -> Callable[[Rows], str]:
    """`words` with the number of rows that hold the needle."""
    return lambda rows: words.format(with_text(rows, needle, where))


def cut_off(rows: Rows) -> str:
    """Of the long cell: two letters by turns, so that no other row is as long."""
    kept = [len(words) for row in rows for words in row["text"].values() if "x y\n" in words]
    return f"the long one cut to {kept[0]} characters" if kept else "the long one left out"


TURN = "<|im_start|>system\n<|im_end|>"
LIST: list[Case] = [
    Case("01 ShareGPT called messages", "01-all-rows-at-fault/sharegpt.jsonl", "each row's fault, by line"),
    Case(
        "01 content as parts",
        "01-all-rows-at-fault/chat-parts.jsonl",
        "60 rows",
        count("Answer", "an answer in the loss of {}", "loss"),
    ),
    Case("01 UTF-16", "01-all-rows-at-fault/utf16.csv", "80 rows, or said", axolotl=CSV, factory=CSV_COLUMNS),
    Case(
        "01 semicolons, Latin-1", "01-all-rows-at-fault/semi.csv", "80 rows, or said", axolotl=CSV, factory=CSV_COLUMNS
    ),
    Case(
        "03 a cell of 200,000 characters",
        "03-csv-long-cell/longfield.csv",
        "79 rows, the one named",
        cut_off,
        axolotl=CSV,
        factory=CSV_COLUMNS,
    ),
    Case(
        "04 stray quotes",
        "04-csv-wrong-line/strayquote.csv",
        "lines 22 and 42 named",
        count("The heavy printer", "the row after line 22 in {}"),
        axolotl=CSV,
        factory=CSV_COLUMNS,
    ),
    Case("06 the question in the system turn", "06-question-in-the-system-turn/chat-ragsys.jsonl", "60 rows"),
    Case(
        "07 tool calls",
        "07-tool-call-lost/chat-toolsilent.jsonl",
        "the call in the loss of 60 rows, or said",
        count("lookup", "the call in the loss of {}", "loss"),
    ),
    Case(
        "07 tool calls, by its `openai` format",
        "07-tool-call-lost/chat-toolsilent.jsonl",
        "the call in the loss of 60 rows, or said",
        lambda rows: (
            f"the call in the loss of {with_text(rows, 'lookup', 'loss')}, the words beside it of "
            f"{with_text(rows, 'Let me look', 'loss')}; 'detailed thinking off' put into {with_text(rows, 'detailed')}"
        ),
        axolotl=None,
        factory={
            "formatting": "openai",
            "columns": {"messages": "messages", "tools": "tools"},
            "tags": TAGS | {"observation_tag": "tool", "function_tag": "function_call"},
        },
    ),
    Case(
        "08 weight 0",
        "08-weight-0-is-learnt/chat-weight.jsonl",
        "a wrong guess in the loss of 0",
        count("Wrong guess", "a wrong guess in the loss of {}", "loss"),
    ),
    Case(
        "08 weight 0, by its `message_field_training`",
        "08-weight-0-is-learnt/chat-weight.jsonl",
        "a wrong guess in the loss of 0",
        count("Wrong guess", "a wrong guess in the loss of {}", "loss"),
        axolotl=CHAT | {"message_field_training": "weight"},
        factory=None,
    ),
    Case(
        "09 conversational pairs",
        "09-dpo-conversational/trl-dpo-conv.jsonl",
        "60 pairs",
        count("Good", "the chosen answer in {}"),
        axolotl=PAIRS,
        factory=RANKING,
        rl="dpo",
    ),
    Case(
        "10 several rejected answers",
        "10-dpo-several-rejected/dpo-multi-rejected.jsonl",
        "120 pairs",
        count("Good", "the chosen answer in {}"),
        axolotl=PAIRS,
        factory={"ranking": True, "columns": {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}},
        rl="dpo",
    ),
    Case(
        "12 Alpaca's null input",
        "12-alpaca-null-input/alpaca-null.jsonl",
        "60 rows, 'None' in 0",
        count("None", "'None' in {}"),
        axolotl=ALPACA,
        factory={},
    ),
    Case(
        "13 empty system prompt",
        "13-empty-system-prompt/orca.jsonl",
        "60 rows, an empty system turn in 0",
        count(TURN, "an empty system turn in {}"),
        axolotl={
            "ds_type": "json",
            "type": {
                "field_system": "system_prompt",
                "field_instruction": "question",
                "field_output": "response",
                "format": "{instruction}",
            },
        },
        factory={"columns": {"system": "system_prompt", "prompt": "question", "response": "response"}},
    ),
    Case(
        "15 a checkpoint below the model",
        "15-checkpoint-instead-of-model/chat-ok.jsonl",
        "the model on top",
        weights="trainer",
    ),
    Case("17 no pad token", "17-no-pad-token/chat-ok.jsonl", "trains, or said before", weights="nopad"),
    Case(
        "18 a token beyond the embedding",
        "18-token-beyond-the-embedding/chat-addtok.jsonl",
        "said before training",
        weights="addtok",
    ),
    Case(
        "20 a template refuses one row",
        "20-template-refuses/chat-onesys.jsonl",
        "the row named, or dropped and said",
        count("Be brief.", "the refused row in {}"),
        weights="strict",
    ),
    Case(
        "24 U+2028 in a row",
        "24-line-separator-in-a-row/chat-ls.jsonl",
        "60 rows, the character in 60",
        count("\u2028", "the character in {}"),
    ),
]


def make_weights() -> None:
    """The cases' own tiny models, by their own script."""
    source = FOLDER / "made"
    source.mkdir(parents=True, exist_ok=True)
    shutil.copy(CASES / "15-checkpoint-instead-of-model/make_weights.py", source / "make_weights.py")
    for name in sorted({case.weights for case in LIST}):
        run(sys.executable, str(source / "make_weights.py"), name)
    long_cell = source / "cases/03-csv-long-cell"
    long_cell.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, str(CASES / long_cell.name / "make.py")], cwd=source, check=True)


def slug(case: Case) -> str:
    return re.sub(r"\W+", "-", case.name.lower()).strip("-")


def write_case(case: Case) -> None:
    """The YAML of both peers. One step of two rows; what is not said is the peer's default."""
    base = FOLDER / "made/weights" / case.weights
    rows = CASES / case.file if (CASES / case.file).exists() else FOLDER / "made/cases" / case.file
    for peer in PEERS:
        folder = FOLDER / peer / slug(case)
        shutil.rmtree(folder, ignore_errors=True)
        train = {"max_steps": 1, "output_dir": str(folder / "trained"), **FOR_A_CPU[peer]}
        if peer == "axolotl" and case.axolotl is not None:
            own = {"micro_batch_size": 2, "sequence_len": 256, "learning_rate": 1e-3, "optimizer": "adamw_torch"}
            preference = {"rl": case.rl} if case.rl else {}
            write(folder / "config.yml", axolotl(base, rows, case.axolotl, train | own | preference))
        elif peer == "llama-factory" and case.factory is not None:
            own = {"per_device_train_batch_size": 2, "cutoff_len": 256, "report_to": "none"}
            preference = {"stage": case.rl} if case.rl else {}
            write(folder / "dataset_info.json", {"rows": {"file_name": str(rows), **case.factory}})
            write(folder / "config.yml", llama_factory(base, folder, train | own | preference))


def seen(case: Case, folder: Path) -> str:
    """In a few words: how many rows its Trainer was fed, what of them, how it ended."""
    if not folder.exists():
        return "not asked"
    error = json.loads((folder / "seen.json").read_text(encoding="utf8"))["error"]
    begun = folder / "rows.json"
    words = ""
    if begun.exists():
        found = json.loads(begun.read_text(encoding="utf8"))
        told = case.tell(found["rows"])
        if case.weights == "trainer":
            told = "the checkpoint's weights" if found["weight"] == 0.5 else "the model on top"
        words = f"{len(found['rows'])} rows{', ' if told else ''}{told}"
    if error:
        words += ("; then " if words else "") + "error: `" + re.sub(r"\s+", " ", error)[:200].replace("`", "'") + "`"
    return words


def run_cases() -> None:
    if not CASES.exists():
        console.print(f"no {CASES}: the table of cases stays as it is")
        return
    make_weights()
    for case in LIST:
        write_case(case)
    for peer in PEERS:
        run_inside(peer, "cases", FOLDER / peer)
    write_table()


def write_table() -> None:
    """From what the runs left."""
    rows = [[case.name, case.right, *(seen(case, FOLDER / peer / slug(case)) for peer in PEERS)] for case in LIST]
    head = (
        f"Seen by `make race`: {versions('llama-factory')}; {versions('axolotl')}. The smallest configuration of each, "
        'one step of training; "rows" are those that its Trainer was fed. Case 11, named entities, was not asked: '
        "neither has a format of rows for tags."
    )
    titles = ["case", "right would be", *(NAMES[peer] for peer in PEERS)]
    write_section(DOCUMENT, "race-cases", [head, "", *table(titles, rows)])
