"""What a file of rows is for: its task and columns, told by the names and by what the cells hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from configs.errors import InputError
from configs.rows.files import SUFFIXES, suffix_format
from configs.task import Problem, Task
from train.rows.recognise import ALIASES
from train.sources.files import read_files
from train.sources.source import Fault, Row

LOOKED_AT = 5_000  # rows
TEXT, TOKENS, TAGS, PROMPT, COMPLETION = (ALIASES[name] for name in ("text", "tokens", "tags", "prompt", "completion"))
# An output is an answer in words where an instruction stands beside it: Alpaca's rows are no labelled ones.
LABEL = tuple(dict.fromkeys(one for ours in ("label", "labels", "value") for one in ALIASES[ours] if one != "output"))
MOST_LABELS = 200
Reader = Callable[[list[Row], list[str]], "Rows | None"]
HINT = "name a file of rows, or write data.columns by hand (docs/data.md)"


@dataclass(frozen=True)
class Rows:
    """`columns`: ours to theirs. `template`: Jinja by our names. `texts`: all that counts as tokens of each row looked
    at. `labels`: of each row. `whole`: whether all rows were looked at."""

    task: Task
    why: str
    texts: list[str]
    problem: Problem = "single_label"
    columns: dict[str, str] = field(default_factory=dict)
    template: dict[str, str | bool] = field(default_factory=dict)
    preset: str | None = None
    labels: Counter[str] = field(default_factory=Counter)
    answers: list[str] = field(default_factory=list)
    turns: int = 0
    whole: bool = True


def look(files: list[str], wanted: Task | None, writes: bool, has_template: bool) -> Rows:
    """`writes`: whether the base is a GPT; `has_template`: whether it has a chat template. Raises InputError where
    nothing can be made of the rows, or not with this base."""
    found = list(islice(numbered(files), LOOKED_AT + 1))
    rows = [row for row in found[:LOOKED_AT] if not isinstance(row, Fault)]
    if not rows:
        fault = next((row for row in found if isinstance(row, Fault)), None)
        reason = f"the first is {fault.found}, expected {fault.expected}" if fault else "it is empty"
        raise InputError(f"{', '.join(files)}: found no row that can be read: {reason}", hint=HINT)
    made = recognise(rows, wanted, writes, has_template)
    return Rows(**{**vars(made), "whole": len(found) <= LOOKED_AT})


def numbered(files: list[str]) -> Any:
    odd = [file for file in files if suffix_format(file) is None]
    if odd:
        raise InputError(f"{odd[0]}: found no ending that says what it is, expected {', '.join(SUFFIXES)}", hint=HINT)
    return (row for batch in read_files(files, "", None) for row in batch.rows)


def recognise(rows: list[Row], wanted: Task | None, writes: bool, has_template: bool) -> Rows:
    columns = list(dict.fromkeys(name for row in rows[:100] for name in row))
    labelled: tuple[Reader, ...] = (as_tags, as_labelled)
    written: tuple[Reader, ...] = (as_preset, as_tags, as_pairs, as_chat, as_completion, as_labelled, as_text)
    for reader in written if writes else (*labelled, *written):
        made = reader(rows, columns)
        if (
            made is not None
            and made.task == "sequence-classification"
            and wanted != made.task
            and (writes or wanted == "causal-lm")
        ):
            made = as_written_label(made)
        if made is not None and wanted in (None, made.task):
            return fit(made, writes, has_template)
    kind = f" for task {wanted}" if wanted else ""
    raise InputError(f"found the columns {', '.join(columns)}, and nothing to be learnt from them{kind}", hint=HINT)


def fit(made: Rows, writes: bool, has_template: bool) -> Rows:
    """Raises InputError where the base cannot do what the rows are for."""
    if made.task in ("causal-lm", "dpo") and not writes:
        found = f"{made.why}, so text is to be written, and the base is of BERT's kind, which writes none"
        raise InputError(found, hint="give --base a GPT-type model")
    if made.task == "token-classification" and writes:
        raise InputError(f"{made.why}, and the base is of GPT's kind", hint="give --base a BERT-type model")
    if has_template or made.task not in ("causal-lm", "dpo"):
        return made
    if made.template:
        return Rows(**{**vars(made), "template": {**made.template, "chat": False}})
    if made.task == "dpo" or made.turns:
        raise InputError(f"{made.why}, and the base has no chat template", hint="give it a chat_template.jinja")
    return made


def as_preset(rows: list[Row], columns: list[str]) -> Rows | None:
    """ShareGPT's conversations, Alpaca's instructions."""
    turns = rows[0].get("conversations")
    if isinstance(turns, list) and turns and isinstance(turns[0], dict) and "from" in turns[0]:
        texts = ["\n".join(str(turn.get("value")) for turn in row.get("conversations") or []) for row in rows]
        return Rows("causal-lm", "conversations of from and value: ShareGPT's rows", texts, preset="sharegpt", turns=2)
    if {"instruction", "output"} <= set(columns):
        inner = "{{ '\\n\\n' + input if input else '' }}" if "input" in columns else ""
        asked = f"{{{{ instruction }}}}{inner}"
        names = ("instruction", "input", "output")
        return Rows(
            "causal-lm",
            "the columns instruction and output: Alpaca's rows",
            ["\n\n".join(str(row.get(name) or "") for name in names) for row in rows],
            template={"prompt": asked, "completion": "{{ output }}"},
            answers=[str(row.get("output")) for row in rows],
        )
    return None


def as_tags(rows: list[Row], columns: list[str]) -> Rows | None:
    tokens, tags = named(columns, TOKENS), named(columns, TAGS)
    if not tokens or not tags or not all_of(rows, tokens, list) or not all_of(rows, tags, list):
        return None
    return Rows(
        "token-classification",
        f"lists of words ({tokens}) and of tags ({tags})",
        [" ".join(map(str, row[tokens] or [])) for row in rows],
        columns=renamed(tokens=tokens, tags=tags),
        labels=Counter(str(tag) for row in rows for tag in row[tags] or []),
    )


def as_pairs(rows: list[Row], columns: list[str]) -> Rows | None:
    if not {"chosen", "rejected"} <= set(columns) and not {"messages", "rejected"} <= set(columns):
        return None
    texts = [" ".join(map(str, (row.get("prompt"), row.get("messages"), row.get("chosen")))) for row in rows]
    preset = "trl" if isinstance(rows[0].get("chosen"), list) else None
    return Rows("dpo", "an answer and a rejected one", texts, preset=preset, turns=2)


def as_chat(rows: list[Row], columns: list[str]) -> Rows | None:
    if "messages" not in columns or not all_of(rows, "messages", list):
        return None
    talks = [[turn for turn in row["messages"] or [] if isinstance(turn, dict)] for row in rows]
    return Rows(
        "causal-lm",
        "conversations (messages)",
        ["\n".join(str(turn.get("content")) for turn in talk) for talk in talks],
        answers=[str(talk[-1].get("content")) for talk in talks if talk],
        turns=max(map(len, talks), default=1),
    )


def as_completion(rows: list[Row], columns: list[str]) -> Rows | None:
    prompt, completion = named(columns, PROMPT), named(columns, COMPLETION)
    if not prompt or not completion or not all_of(rows, prompt, str) or not all_of(rows, completion, str):
        return None
    whole = "completion" in columns and "prompt" in columns
    return Rows(
        "causal-lm",
        f"a question ({prompt}) and its answer ({completion})",
        [f"{row[prompt]} {row[completion]}" for row in rows],
        template={} if whole else {"prompt": slot(prompt), "completion": slot(completion)},
        answers=[str(row[completion]) for row in rows],
    )


def as_labelled(rows: list[Row], columns: list[str]) -> Rows | None:
    label = named(columns, LABEL)
    texts = [name for name in columns if name != label and all_of(rows, name, str)]
    text = named(texts, TEXT) or (max(texts, key=lambda name: mean_length(rows, name)) if texts else None)
    if not label or not text:
        return None
    cells: list[Any] = [row[label] for row in rows if row.get(label) is not None]
    said = [str(row[text]) for row in rows if row.get(text) is not None]
    if not cells:
        return None
    if all(isinstance(cell, list) for cell in cells):
        counts = Counter(str(item) for cell in cells for item in cell)
        why = f"texts ({text}) with lists of labels ({label})"
        return Rows(
            "sequence-classification", why, said, "multi_label", renamed(text=text, labels=label), labels=counts
        )
    distinct = {str(cell) for cell in cells}
    if all(is_number(cell) for cell in cells) and (len(distinct) > MOST_LABELS or any(map(is_fraction, cells))):
        why = f"texts ({text}) with numbers ({label})"
        return Rows("sequence-classification", why, said, "regression", renamed(text=text, value=label))
    if len(distinct) > MOST_LABELS:
        return None
    counts = Counter(map(str, cells))
    why = f"texts ({text}) with one of {len(distinct)} labels ({label})"
    return Rows("sequence-classification", why, said, columns=renamed(text=text, label=label), labels=counts)


def as_text(rows: list[Row], columns: list[str]) -> Rows | None:
    text = named(columns, TEXT)
    if not text or not all_of(rows, text, str):
        return None
    return Rows("causal-lm", f"plain texts ({text})", [str(row[text]) for row in rows], columns=renamed(text=text))


def as_written_label(made: Rows) -> Rows:
    """A GPT writes the label: the same columns, by a template."""
    column = made.columns.get("text", "text")
    name = next((made.columns.get(ours, ours) for ours in ("label", "labels", "value") if ours in made.columns), None)
    ours = {"single_label": "label", "multi_label": "labels", "regression": "value"}[made.problem]
    answer = slot(name or ours, " | join(', ')" if made.problem == "multi_label" else "")
    return Rows(
        "causal-lm",
        f"{made.why}, which a GPT writes",
        [f"{text} {max(made.labels, key=len, default='0.123456')}" for text in made.texts],
        template={"prompt": slot(column), "completion": answer},
        answers=list(made.labels),
    )


def slot(column: str, filters: str = "") -> str:
    """A column in Jinja; one whose name is no Python name cannot be written there."""
    if not column.isidentifier():
        raise InputError(f"found the column {column!r}, which no template can name", hint="rename it to one word")
    return f"{{{{ {column}{filters} }}}}"


def named(columns: list[str], names: tuple[str, ...]) -> str | None:
    """The column that goes by the likeliest of the names, else one of whose words is such a name."""
    for name in names:
        if found := next((column for column in columns if plain(column) == name), None):
            return found
    words = {column: plain(column).split("_") for column in columns}
    return next((column for name in names if len(name) > 1 for column in columns if name in words[column]), None)


def plain(column: str) -> str:
    return column.strip().lower().replace("-", "_").replace(" ", "_").replace(".", "_")


def renamed(**columns: str) -> dict[str, str]:
    """Those that are called otherwise than ours."""
    return {ours: theirs for ours, theirs in columns.items() if ours != theirs}


def all_of(rows: list[Row], column: str, kind: type) -> bool:
    cells = [row.get(column) for row in rows if row.get(column) is not None]
    return bool(cells) and all(isinstance(cell, kind) for cell in cells)


def mean_length(rows: list[Row], column: str) -> float:
    return sum(len(str(row.get(column) or "")) for row in rows) / len(rows)


def is_number(cell: Any) -> bool:
    try:
        float(cell)
    except (TypeError, ValueError):
        return False
    return not isinstance(cell, bool)


def is_fraction(cell: Any) -> bool:
    return float(cell) != int(float(cell)) if abs(float(cell)) < 1e300 else True
