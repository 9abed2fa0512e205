"""Behaviour tests of a served release: asked beside the test rows, listed one by one in behaviour.parquet, summed
up in metrics.json."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import InputError
from configs.metrics import BehaviourFigures
from configs.release import Manifest
from configs.run.behaviour import Abstention, Directional, Invariance, Robustness, name_of
from configs.run.evaluate import Evaluate
from configs.run.metrics import METRICS
from eval.behaviour.cases import PROMPT, Case, cases_of
from eval.behaviour.perturb import last_question
from eval.measure.answers import Answers, ask_all
from eval.measure.digest import json_digest
from eval.measure.rows import Rows
from eval.metrics.rows import Row
from eval.metrics.score import kind_of, score
from infra.tokenizer import with_tokens
from infra.vllm.answer import Answer

if TYPE_CHECKING:
    from pandas import DataFrame

Ask = Callable[[list[Row]], list[Answer]]
Outcome = dict[str, str | float]  # a row of behaviour.parquet
FILE = "behaviour.parquet"
WHOLE_ANSWER = {
    "label": "accuracy",
    "labels": "subset_accuracy",
    "value": "mean_absolute_error",
    "tags": "sentence_accuracy",
    "answer": "exact_match",
}


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
        "variant": case.variant,
        "group": case.group,
        "base": case.base,
        "id": case.id,
        "original_correct": pair[0],
        "changed_correct": pair[1],
        "flipped": float(differs(original, changed, tolerance)),
        "original_answer": original.text,
        "changed_answer": changed.text,
        "changed_text": last_question(case.changed),
    }


def differs(original: Answer, changed: Answer, tolerance: float) -> bool:
    if original.value is not None and changed.value is not None:
        return not abs(original.value - changed.value) <= tolerance
    return original.text.strip() != changed.text.strip()


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


def figures_of(frame: DataFrame, metric: str, higher_is_better: bool = True) -> BehaviourFigures:
    original = float(frame["original_correct"].mean(skipna=False))
    changed = float(frame["changed_correct"].mean(skipna=False))
    drop = (original - changed) * (1 if higher_is_better else -1)
    return {
        "n": len(frame),
        "metric": metric,
        "original": original,
        "changed": changed,
        "drop": drop,
        "flip_rate": float(frame["flipped"].mean()),
    }


def sum_robustness(frame: DataFrame, test: Any, kind: str) -> BehaviourFigures:
    """`drop` is above 0 where the metric got worse; `groups`: the same figures by perturbation."""
    metric = WHOLE_ANSWER[kind]
    better = METRICS[metric].higher_is_better
    groups = {
        str(name): without_nan(figures_of(part, metric, better)) for name, part in frame.groupby("variant", sort=False)
    }
    return {"kind": test.test, **figures_of(frame, metric, better), "gap": None, "groups": groups}


def sum_invariance(frame: DataFrame, test: Any, kind: str) -> BehaviourFigures:
    """`gap`: the largest difference between the mean outcomes of two groups, each word or row counted once."""
    import pandas

    first = frame[["base", "id", "original_correct"]].set_axis(["group", "id", "outcome"], axis=1)
    if test.templates:  # the first group's words are compared with every other group's
        first = first.assign(id=frame["id"].str.replace(r"/[^/]*(?=/[^/]*$)", "", regex=True)).drop_duplicates("id")
    both = pandas.concat(
        [first, frame[["group", "id", "changed_correct"]].set_axis(["group", "id", "outcome"], axis=1)]
    )
    means = {
        str(name): {"n": len(part), "mean": float(part["outcome"].mean(skipna=False))}
        for name, part in both.groupby("group", sort=False)
    }
    values = [one["mean"] for one in means.values()]
    gap = max(values) - min(values) if all(math.isfinite(value) for value in values) else math.nan
    metric = (
        f"probability:{test.label}"
        if test.label
        else "matches"
        if test.pattern
        else "value"
        if kind == "value"
        else WHOLE_ANSWER[kind]
    )
    return {
        "kind": test.test,
        **figures_of(frame, metric),
        "gap": gap,
        "groups": {name: without_nan(one) for name, one in means.items()},
    }


def sum_directional(frame: DataFrame, test: Any, kind: str) -> BehaviourFigures:
    """`original` and `changed` are means of the probability; `moved` is the share that moved as it must, `drop`
    the rest."""
    move = (frame["changed_correct"] - frame["original_correct"]) * (1 if test.direction == "up" else -1)
    moved = float((move > test.minimum_move).mean())  # a move that is no number did not move as it must
    figures = figures_of(frame, f"probability:{test.label}" if test.label else "value")
    return {"kind": test.test, **figures, "moved": moved, "drop": 1 - moved, "gap": None, "groups": {}}


def sum_abstention(frame: DataFrame, test: Any, kind: str) -> BehaviourFigures:
    """`changed`: share of the prompts abstained from, `original`: share of ordinary rows abstained from without need;
    `drop`: prompts answered."""
    asked, ordinary = frame[frame["variant"] == PROMPT], frame[frame["variant"] != PROMPT]
    abstained, without_need = float(asked["changed_correct"].mean()), float(ordinary["changed_correct"].mean())
    rates: dict[str, dict[str, float | None]] = {
        "prompt": {"n": len(asked), "mean": abstained},
        "ordinary": {"n": len(ordinary), "mean": without_need},
    }
    return {
        "kind": test.test,
        "n": len(asked),
        "metric": "abstained",
        "original": without_need,
        "changed": abstained,
        "drop": 1 - abstained,
        "flip_rate": None,
        "gap": None,
        "groups": rates,
    }


SUMMARIES: dict[str, Callable[[DataFrame, Any, str], BehaviourFigures]] = {
    "robustness": sum_robustness,
    "invariance": sum_invariance,
    "directional": sum_directional,
    "abstention": sum_abstention,
}


def without_nan(figures: Any) -> Any:
    """JSON knows no NaN: absent is null, and the gate does not pass it."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in figures.items()
    }
