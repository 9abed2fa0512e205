"""What a validation finds beside the loss: figures of gold and answers, and what a constant answer would have got."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy

from configs.rows.tags import read_spans, way_of
from configs.run.config import RunConfig

Kind = Literal["single_label", "multi_label", "regression", "tags", "text"]
# Of one row: a class index, a 0 or 1 for each label, a number, or the class index of each word's tag.
Answer = Any
Pairs = list[tuple[Answer, Answer]]  # gold and answered

# The task's metric that train.best_by: metric goes by, and whether more of it is better.
BEST_BY: dict[Kind, tuple[str, bool]] = {
    "single_label": ("macro_f1", True),
    "multi_label": ("micro_f1", True),
    "regression": ("mean_absolute_error", False),
    "tags": ("entity_f1", True),
}


def kind_of(config: RunConfig) -> Kind:
    if config.task == "sequence-classification":
        return config.problem
    return "tags" if config.task == "token-classification" else "text"


def goal_of(config: RunConfig) -> tuple[str, bool]:
    """The key of a trainer's log by which the best checkpoint is chosen, and whether more of it is better."""
    kind, wanted = kind_of(config), config.train.best_by
    weighted = config.train.class_weights is not None  # for which the plain loss is no goal
    if kind in BEST_BY and (wanted == "metric" or (wanted == "auto" and (kind == "tags" or weighted))):
        metric, more = BEST_BY[kind]
        return f"eval_{metric}", more
    return "eval_loss", False


def describe_answers(kind: Kind, pairs: Pairs, labels: list[str]) -> dict[str, float]:
    """The figures of one validation; none of a text, whose answers are not read."""
    if not pairs or kind == "text":
        return {}
    if kind == "regression":
        gold, answered = numpy.array(pairs, dtype=float).T
        return {
            "mean_absolute_error": float(numpy.abs(gold - answered).mean()),
            "correlation": correlation(gold, answered),
        }
    if kind == "multi_label":
        return {
            "accuracy": share(gold == answered for gold, answered in pairs),
            "micro_f1": f1(
                *counts([set(marked(gold)) for gold, _ in pairs], [set(marked(found)) for _, found in pairs])
            ),
            "distinct_answers": len({found for _, found in pairs}),
        }
    if kind == "tags":
        words = [word for gold, answered in pairs for word in zip(gold, answered, strict=True)]
        way = way_of(labels)
        spans = [[set(read_spans([labels[tag] for tag in tags], way)) for tags in row] for row in pairs]
        return {
            "accuracy": share(gold == answered for gold, answered in words),
            "entity_f1": f1(*counts([gold for gold, _ in spans], [answered for _, answered in spans])),
            "distinct_answers": len({answered for _, answered in words}),
        }
    return {
        "accuracy": share(gold == answered for gold, answered in pairs),
        "macro_f1": macro_f1(pairs),
        "distinct_answers": len({answered for _, answered in pairs}),
    }


def loss_of_constant(kind: Kind, pairs: Pairs) -> float | None:
    """The lowest loss that any constant answer can have on these rows: the entropy of their labels in nats (Gibbs'
    inequality), of numbers their variance. None of a text."""
    gold = [row for row, _ in pairs]
    if not gold or kind == "text":
        return None
    if kind == "regression":
        return float(numpy.var(numpy.array(gold, dtype=float)))
    if kind == "multi_label":
        shares = numpy.array(gold, dtype=float).mean(axis=0)
        return float(numpy.mean([entropy([float(one), 1 - float(one)]) for one in shares]))
    items = [tag for tags in gold for tag in tags] if kind == "tags" else gold
    return entropy([count / len(items) for count in Counter(items).values()]) if items else None


def counts(gold: Sequence[set[Any]], answered: Sequence[set[Any]]) -> tuple[int, int, int]:
    """Right ones, answered ones, gold ones."""
    right = sum(len(one & other) for one, other in zip(gold, answered, strict=True))
    return right, sum(map(len, answered)), sum(map(len, gold))


def f1(right: int, answered: int, gold: int) -> float:
    return 2 * right / (answered + gold) if answered + gold else 0.0


def macro_f1(pairs: Pairs) -> float:
    """Mean over the classes that are gold or answered."""
    right = Counter(gold for gold, answered in pairs if gold == answered)
    gold, answered = Counter(one for one, _ in pairs), Counter(other for _, other in pairs)
    classes = gold.keys() | answered.keys()
    return sum(f1(right[one], answered[one], gold[one]) for one in classes) / len(classes)


def marked(row: Sequence[int]) -> Iterable[int]:
    return (index for index, value in enumerate(row) if value)


def share(values: Iterable[bool]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else 0.0


def correlation(gold: Any, answered: Any) -> float:
    """Pearson's; 0 where one of them does not vary."""
    if min(numpy.std(gold), numpy.std(answered)) < 1e-12:
        return 0.0
    return float(numpy.corrcoef(gold, answered)[0, 1])


def entropy(shares: Iterable[float]) -> float:
    return -sum(one * math.log(one) for one in shares if one > 0)
