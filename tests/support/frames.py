"""Predictions of each kind of row, seeded: labels a, b and c, four in five right, every figure of the kind defined."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy
import pandas

from eval.metrics.entities import score_tags
from eval.metrics.generation import compare_texts

LABELS = ("a", "b", "c")
WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "then", "went", "away", "to", "find", "some", "more", "food"]


def label(n: int, random: numpy.random.Generator) -> pandas.DataFrame:
    gold = random.choice(LABELS, n, p=[0.5, 0.3, 0.2])
    answer = numpy.where(random.random(n) < 0.8, gold, random.choice(LABELS, n))
    sure = random.uniform(0.4, 0.99, n)
    probs = [{one: (p if one == name else (1 - p) / 2) for one in LABELS} for name, p in zip(answer, sure, strict=True)]
    right = [one[name] for one, name in zip(probs, gold, strict=True)]
    return pandas.DataFrame(
        {
            "gold": gold,
            "answer": answer,
            "correct": (gold == answer).astype(float),
            "confidence": sure,
            "log_loss": -numpy.log(right),
            "brier": [
                sum((one[name] - (name == true)) ** 2 for name in LABELS) for one, true in zip(probs, gold, strict=True)
            ],
            "probabilities": [json.dumps(one) for one in probs],
        }
    )


def labels(n: int, random: numpy.random.Generator) -> pandas.DataFrame:
    has = random.random((n, 3)) < [0.6, 0.4, 0.3]
    got = numpy.where(random.random((n, 3)) < 0.8, has, ~has)
    names = [[[name for name, one in zip(LABELS, row, strict=True) if one] for row in side] for side in (has, got)]
    probs = numpy.where(got, random.uniform(0.5, 1, got.shape), random.uniform(0, 0.5, got.shape))
    return pandas.DataFrame(
        {
            "gold": ["|".join(one) for one in names[0]],
            "answer": ["|".join(one) for one in names[1]],
            "correct": (has == got).all(axis=1).astype(float),
            "gold_labels": names[0],
            "answer_labels": names[1],
            "probabilities": [json.dumps(dict(zip(LABELS, row.tolist(), strict=True))) for row in probs],
        }
    )


def value(n: int, random: numpy.random.Generator) -> pandas.DataFrame:
    gold = random.normal(size=n).round(1)
    answer = gold + random.normal(scale=0.5, size=n).round(1)
    return pandas.DataFrame({"gold": gold, "answer": answer, "absolute_error": abs(answer - gold)})


def tags(n: int, random: numpy.random.Generator) -> pandas.DataFrame:
    rows = []
    for _ in range(n):
        gold = [str(one) for one in random.choice(["O", "B-PER", "B-ORG"], int(random.integers(3, 12)))]
        answer = [one if random.random() < 0.8 else str(random.choice(["O", "B-PER", "B-ORG"])) for one in gold]
        rows.append(score_tags(gold, answer))
    return pandas.DataFrame(rows)


def text(n: int, random: numpy.random.Generator) -> pandas.DataFrame:
    tokens = random.integers(4, 40, n)
    return pandas.DataFrame({"tokens": tokens, "logprob": -tokens * random.gamma(8, 0.25, n)})


def answer(n: int, random: numpy.random.Generator) -> pandas.DataFrame:
    rows = []
    for _ in range(n):
        wanted = [str(one) for one in random.choice(WORDS, int(random.integers(6, 15)))]
        given = [one if random.random() < 0.8 else str(random.choice(WORDS)) for one in wanted]
        rows.append(compare_texts(" ".join(given), " ".join(wanted)))
    return pandas.DataFrame(rows).assign(**text(n, random))


FRAMES: dict[str, Callable[[int, numpy.random.Generator], pandas.DataFrame]] = {
    "label": label,
    "labels": labels,
    "value": value,
    "tags": tags,
    "text": text,
    "answer": answer,
}


def frame_of(kind: str, n: int, spoilt: int = 0) -> pandas.DataFrame:
    """`spoilt`: so many of the rows that are right are made wrong."""
    frame = FRAMES[kind](n, numpy.random.default_rng(5))
    frame.insert(0, "id", [f"r{number}" for number in range(n)])
    places = frame.index[frame["correct"] == 1][:spoilt] if "correct" in frame else frame.index[:spoilt]
    for place in places:
        spoil(frame, kind, place)
    return frame


def spoil(frame: Any, kind: str, place: int) -> None:
    if kind == "tags":
        frame.loc[place, ["correct", "entities_found"]] = 0
        frame.loc[place, "entities_wrong"] = frame.loc[place, "entities"]
    elif kind == "answer":
        for column, step in (("bleu_statistics", slice(2, 6)), ("chrf_statistics", slice(2, None, 3))):
            found = list(frame.at[place, column])
            found[step] = [0] * len(found[step])
            frame.at[place, column] = found
    elif kind == "labels":
        frame.at[place, "answer_labels"] = [one for one in LABELS if one not in frame.at[place, "gold_labels"]]
        frame.loc[place, "correct"] = 0.0
    else:
        given = next(one for one in LABELS if one != frame.at[place, "gold"])
        frame.loc[place, "correct"] = 0.0
        frame.loc[place, "answer"] = given
        frame.at[place, "probabilities"] = json.dumps({one: float(one == given) for one in LABELS})
