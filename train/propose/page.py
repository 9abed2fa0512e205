"""The YAML of a proposal, each value with the reason for it."""

from __future__ import annotations

import json
import math
from operator import itemgetter
from typing import Any, NamedTuple

from configs.task import Task
from configs.training.defaults import default_learning_rate
from train.propose.base import Base, frame_tokens
from train.propose.rows import Rows

FEW_STEPS = 600
RARE_ROWS = 10
# Schulman et al. 2025 (LoRA Without Regret), their fit over fourteen Llama and Qwen models: 5e-4 at a width of 2,000,
# lower by this power of the width; within what they tried.
RATE_WIDTH, RATE_POWER, RATES = 2000, 0.781, (1e-4, 2e-3)
SMALL_WIDTH = 1024  # BERT-large's, 340 million weights
MAIN_METRIC = {
    "causal-lm": ("token_f1", 0.1),
    "dpo": ("preference_accuracy", 0.5),
    "token-classification": ("entity_f1", 0.1),
    "multi_label": ("micro_f1", 0.1),
    "regression": ("r_squared", 0.0),
}


class Line(NamedTuple):
    """`why` is the comment behind it."""

    key: str
    value: Any
    why: str


def max_tokens_of(base: Base, rows: Rows, longest: int, counted: bool) -> Line:
    """Above the longest row that was looked at, at most what the base can place."""
    talks = rows.task in ("causal-lm", "dpo")
    margin = frame_tokens(base) * max(1, math.ceil(rows.turns / 2)) if talks else 4
    wanted = max(32, math.ceil((longest + margin) / 32) * 32)
    if not rows.whole or not counted:
        wanted = math.ceil(wanted * 1.25 / 32) * 32
    most = min(base.positions or 131_072, 131_072)
    seen = f"{'' if rows.whole else 'of the rows looked at '}the longest has {'' if counted else 'about '}{longest}"
    if wanted <= most:
        return Line("max_tokens", wanted, f"{seen} tokens, and a template adds some" if talks else f"{seen} tokens")
    return Line("max_tokens", most, f"all the positions that the base has; {seen} tokens")


def held_out(rows: Rows) -> tuple[Line, Line]:
    """A tenth to judge by, a twentieth to choose the checkpoint by."""
    count = len(rows.texts)
    test, validation = max(1, min(1000, count // 10)), max(1, min(500, count // 20))
    few = "; few, so the gate's intervals will be wide" if test < 100 else ""
    return (
        Line("validation_rows", validation, "a twentieth: they choose the checkpoint"),
        Line("test_rows", test, f"a tenth: the gate judges by them{few}"),
    )


def shares(rows: Rows) -> list[Line]:
    """A rare label may have none of its rows among the train rows that are drawn at random."""
    if rows.task != "sequence-classification" or rows.problem != "single_label":
        return []
    rarest, count = min(rows.labels.items(), key=itemgetter(1))
    if count >= RARE_ROWS:
        return []
    return [
        Line("split", {"method": "stratified"}, f"{rarest!r} has {count}: its first row trains, then each its share")
    ]


def method_of(base: Base, rows: Rows) -> list[Line]:
    """A classifier no larger than BERT-large is trained whole: LoRA leaves its embeddings as they are, which costs
    points on rows unlike what the base has read, and saves little. Of anything else an adapter."""
    if rows.task == "sequence-classification" and not base.writes and base.width and base.width <= SMALL_WIDTH:
        return [
            Line("method", "full", "every weight: the base is small, and learns words that it has not read"),
            Line("learning_rate", 1e-4, "of few rows twice what BERT was tuned with"),
        ]
    if rows.task != "causal-lm" or not base.width:
        return []
    rate = min(
        max(default_learning_rate("causal-lm", "lora", "dpo") * (RATE_WIDTH / base.width) ** RATE_POWER, RATES[0]),
        RATES[1],
    )
    return [Line("learning_rate", float(f"{rate:.1g}"), f"LoRA's, for a base {base.width:,} wide")]


def training(base: Base, rows: Rows, max_tokens: int, held: int) -> list[Line]:
    count = max(1, len(rows.texts) - held)
    batch = max(1, min(32 if count >= 2000 else 16 if count >= 500 else 8, 16_384 // max_tokens, count))
    epochs = epochs_of(rows.task, count, batch)
    steps = max(1, epochs * count // batch)
    few = "; few rows take more passes" if epochs > 3 else ""
    return [
        *method_of(base, rows),
        Line("epochs", epochs, f"about {steps:,} steps{'' if rows.whole else ' or more'}{few}"),
        Line("batch_size", batch, "rows a step; halved by itself where memory runs out"),
        Line("eval_every_steps", max(1, min(500, steps // 8)), "some eight validations in all; the best one is kept"),
    ]


def epochs_of(task: Task, count: int, batch: int) -> int:
    """Three, as BERT's and Llama 2's makers trained; of few labelled or tagged rows as many as make FEW_STEPS, up to
    twenty: a new head learns in steps (Mosbach et al. 2021, arXiv:2006.04884, section 5)."""
    if task not in ("sequence-classification", "token-classification"):
        return 3
    return min(20, max(3, math.ceil(FEW_STEPS * batch / count)))


def gate_rule(rows: Rows) -> tuple[dict[str, Any], str]:
    """A threshold that whoever always gives the same answer does not reach."""
    if rows.task == "sequence-classification" and rows.problem == "single_label":
        commonest, count = rows.labels.most_common(1)[0]
        share = count / rows.labels.total()
        minimum = round(min(0.99, share + (1 - share) * 0.2), 2)
        why = f"always to say {commonest!r} would be right for {share:.0%}"
        return {"rule": "threshold", "metric": "accuracy", "minimum": minimum}, why
    metric, minimum = MAIN_METRIC[rows.problem if rows.task == "sequence-classification" else rows.task]
    return {
        "rule": "threshold",
        "metric": metric,
        "minimum": minimum,
    }, "a first bar: raise it once you know what is good"


def write_gate(rows: Rows, config: str) -> str:
    rule, why = gate_rule(rows)
    flow = ", ".join(f"{key}: {value}" for key, value in rule.items())
    return (
        f"# tunegate gate {config}\n# yaml-language-server: $schema=../schema/gate.json\nrules:\n"
        f"  - {{{flow}}} # {why}\n  - {{rule: parity}} # served answers equal the trainer's own\n"
    )


def write_section(name: str, lines: list[Line]) -> str:
    """A section with a line a key."""
    return f"{name}:\n" + "".join(f"  {line.key}: {shown(line.value)}{comment(line.why)}\n" for line in lines)


def write_line(line: Line) -> str:
    return f"{line.key}: {shown(line.value)}{comment(line.why)}\n"


def shown(value: Any) -> str:
    """JSON is YAML; a plain word goes without quotes."""
    if isinstance(value, str) and value and all(part.isidentifier() for part in value.split("-")) and not odd(value):
        return value
    return json.dumps(value, ensure_ascii=False)


def odd(word: str) -> bool:
    """Words that YAML takes for something else."""
    return word.lower() in ("y", "n", "yes", "no", "on", "off", "true", "false", "null")


def comment(why: str) -> str:
    return f" # {' '.join(why.split())}" if why else ""
