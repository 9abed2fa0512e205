"""One rule decided on evidence of a few rows."""

from __future__ import annotations

from typing import Any

import numpy
import pandas

from configs.rules.gate import GateConfig
from configs.verdict import RuleResult
from eval.rules.decide import decide
from eval.rules.evidence import Evidence, Measured

MINE, OTHER, NAMED = ("a@sha256:" + "a" * 64, "b@sha256:" + "b" * 64, "c@sha256:" + "c" * 64)


def frame(values: Any, column: str = "correct", slices: Any = None) -> pandas.DataFrame:
    found = pandas.DataFrame({"id": [str(i) for i in range(len(values))], column: [float(one) for one in values]})
    return found if slices is None else found.assign(slices=slices)


def measured(
    reference: str,
    values: pandas.DataFrame | None = None,
    dataset: str = "d",
    samples: pandas.DataFrame | None = None,
    **record: Any,
) -> Measured:
    found: Any = {"release": reference, "dataset": dataset, "metrics": {}} | record
    return Measured(found, values, samples)


def samples(*parts: tuple[str, str, Any], cluster: Any = None) -> pandas.DataFrame:
    """The long table of (source, metric, values)."""
    rows = [
        {"id": f"{source}/{place}", "cluster": cluster, "source": source, "metric": metric, "value": float(value)}
        for source, metric, values in parts
        for place, value in enumerate(values)
    ]
    return pandas.DataFrame(rows, columns=["id", "cluster", "source", "metric", "value"])


def judged(rule: dict[str, Any], mine: Measured, **evidence: Any) -> RuleResult:
    return decide(GateConfig.model_validate({"rules": [rule]}), Evidence(MINE, mine, **evidence)).results[0]


def against(rule: dict[str, Any], mine: Any, theirs: Any, column: str = "correct") -> RuleResult:
    return judged(
        rule,
        measured(MINE, frame(mine, column)),
        champion=OTHER,
        references={"champion": measured(OTHER, frame(theirs, column))},
    )


NOISE = numpy.random.default_rng(3).random(200)
