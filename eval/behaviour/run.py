"""Behaviour tests of a served release: asked beside the test rows, listed one by one in behaviour.parquet, summed
up in metrics.json."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from configs.errors import InputError
from configs.metrics import BehaviourFigures
from configs.release import Manifest
from configs.run.behaviour import Abstention, Directional, Invariance, Robustness, name_of
from configs.run.evaluate import Evaluate
from eval.behaviour.cases import Case, cases_of
from eval.behaviour.figures import SUMMARIES, without_nan
from eval.behaviour.perturb import last_question
from eval.measure.answers import Answers, ask_all
from eval.measure.digest import json_digest
from eval.measure.rows import Rows, cluster_of
from eval.metrics.rows import Row
from eval.metrics.score import kind_of, score
from infra.tokenizer import with_tokens
from infra.vllm.answer import Answer

if TYPE_CHECKING:
    from pandas import DataFrame

Ask = Callable[[list[Row]], list[Answer]]
Outcome = dict[str, str | float | None]  # a row of behaviour.parquet
FILE = "behaviour.parquet"


def make_asker(
    base_url: str, served_name: str, manifest: Manifest, release: Path, folder: Path, settings: Evaluate
) -> Ask:
    """Asks as ordinary rows are asked. Answers lie in `folder` by what was asked: after a kill none is asked again."""

    def ask(rows: list[Row]) -> list[Answer]:
        import pyarrow

        if not rows:
            return []
        key = json_digest([manifest.digest, settings.max_new_tokens, settings.concurrency, rows])
        path = folder / f"behaviour-{key}.jsonl"
        answers = Answers.open(path, pyarrow.array([row["id"] for row in rows], "string"))
        ask_all(
            base_url, served_name, manifest, answers.missing(with_tokens(manifest, release, rows)), answers, settings
        )
        return list(answers.in_order())

    return ask


def run_behaviour_tests(
    settings: Evaluate, manifest: Manifest, rows: Rows, answered: Callable[[int], Answer], ask: Ask, folder: Path
) -> dict[str, BehaviourFigures]:
    """metrics.json's `behaviour`: figures by test. `answered`: the answer to the test row of this number.

    Raises InputError where a test does not fit the rows or the release's labels.
    """
    (folder / FILE).unlink(missing_ok=True)
    if not settings.behaviour:
        return {}
    check_fit(settings, manifest, next(iter(rows())))
    cases = [case for test in settings.behaviour for case in cases_of(test, rows)]
    empty = [name_of(test) for test in settings.behaviour if not any(case.test is test for case in cases)]
    if empty:
        raise InputError(
            f"evaluate.behaviour {', '.join(empty)}: no test row holds a word of swap", hint="tunegate check CONFIG"
        )
    fresh = {row["id"]: row for case in cases for row in questions_of(case)}
    answers = dict(zip(fresh, ask([*fresh.values()]), strict=True))
    outcomes = [outcome_of(case, manifest, settings, *pair_of(case, answers, answered)) for case in cases]
    frame = write_outcomes(outcomes, folder / FILE)
    kind = kind_of(manifest.task, next(iter(rows())))
    return {
        name_of(test): without_nan(SUMMARIES[test.test](frame[frame["test"] == name_of(test)], test, kind))
        for test in settings.behaviour
    }


def check_fit(settings: Evaluate, manifest: Manifest, row: Row) -> None:
    labels = {
        label
        for test in settings.behaviour
        if isinstance(test, Invariance | Directional) and (label := test.label) is not None
    }
    unknown = sorted(labels - {*manifest.labels})
    if unknown:
        raise InputError(
            f"evaluate.behaviour: found the label {unknown[0]!r}, expected one of {', '.join(manifest.labels)}",
            hint="tunegate check CONFIG",
        )
    if manifest.task == "causal-lm" and "text" in row:
        raise InputError(
            "evaluate.behaviour: found rows of plain text, expected rows with a question and an answer",
            hint="tunegate prepare CONFIG",
        )


def questions_of(case: Case) -> Iterator[Row]:
    """Those that nobody has asked yet."""
    if case.number is None:
        yield case.original
    if not unchanged(case):
        yield case.changed


def unchanged(case: Case) -> bool:
    """A tagged word may have no letter to perturb: the test row's own answer stands."""
    return case.number is not None and last_question(case.original) == last_question(case.changed)


def pair_of(case: Case, answers: dict[str, Answer], answered: Callable[[int], Answer]) -> tuple[Answer, Answer]:
    original = answers[case.original["id"]] if case.number is None else answered(case.number)
    return original, original if unchanged(case) else answers[case.changed["id"]]


def outcome_of(case: Case, manifest: Manifest, settings: Evaluate, original: Answer, changed: Answer) -> Outcome:
    """One row of behaviour.parquet. The two `_correct` are what the test compares: right or wrong, a probability, a
    number, abstained or not."""
    test = case.test
    pair = [
        outcome_value(case, manifest, settings, row, answer)
        for row, answer in ((case.original, original), (case.changed, changed))
    ]
    tolerance = test.tolerance if isinstance(test, Robustness | Invariance) else 0.0
    return {
        "test": name_of(test),
        "kind": test.test,
        "variant": case.variant,
        "group": case.group,
        "base": case.base,
        "id": case.id,
        "cluster": cluster_of(case.original, settings.cluster) if case.number is not None else None,
        "original_correct": pair[0],
        "changed_correct": pair[1],
        "flipped": float(differs(original, changed, tolerance)),
        "moved": moved(test, pair[1] - pair[0]) if isinstance(test, Directional) else None,
        "original_answer": original.text,
        "changed_answer": changed.text,
        "changed_text": last_question(case.changed),
    }


def differs(original: Answer, changed: Answer, tolerance: float) -> bool:
    if original.value is not None and changed.value is not None:
        return not abs(original.value - changed.value) <= tolerance
    return original.text.strip() != changed.text.strip()


def moved(test: Directional, move: float) -> float:
    """Whether as far as it must, the way it must; a move that is no number did not."""
    return float((move if test.direction == "up" else -move) > test.minimum_move)


def outcome_value(case: Case, manifest: Manifest, settings: Evaluate, row: Row, answer: Answer) -> float:
    test = case.test
    if isinstance(test, Abstention):
        silent = (
            re.search(test.pattern, answer.text) is not None
            if test.pattern is not None
            else max((answer.probs or {"": math.nan}).values()) < (test.confidence_below or 0)
        )
        return float(silent)
    if isinstance(test, Invariance | Directional) and test.label is not None:
        return (answer.probs or {}).get(test.label, math.nan)
    if isinstance(test, Invariance) and test.pattern is not None:
        return float(re.search(test.pattern, answer.text) is not None)
    if not isinstance(test, Robustness) and manifest.problem == "regression":
        return math.nan if answer.value is None else answer.value
    scored = score(manifest.task, row, answer, settings, manifest.labels)
    return float(scored["absolute_error"] if "absolute_error" in scored else scored["correct"])


def write_outcomes(outcomes: list[Outcome], path: Path) -> DataFrame:
    import pandas

    frame = pandas.DataFrame(outcomes)
    partial = path.with_name(path.name + ".partial")
    frame.to_parquet(partial, index=False)
    os.replace(partial, path)
    return frame
