"""Figures of taggers: whole entities, where type, first and last word are right. Answers that break the scheme are read
as conlleval reads them (Tjong Kim Sang and Buchholz 2000, and seqeval's default): an I that goes on with nothing begins
an entity."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from configs.rows.tags import OUTSIDE, Way, read_spans, to_iob2, way_of
from eval.metrics.rows import Prediction

if TYPE_CHECKING:
    from collections.abc import Callable

    from pandas import DataFrame


def score_tags(gold: list[str], predicted: list[str], labels: Sequence[str] = ()) -> Prediction:
    """`labels`: all that the release can answer, which tell how its tags are written: an earlier version's may be bare
    names. `correct`: every entity of the sentence found, and no other. `gold` and `answer` are kept in IOB2."""
    theirs = way_of(labels or predicted)
    ours = theirs if set(gold) <= set(labels) else way_of(gold)
    wanted, found = set(read_spans(gold, ours)), set(read_spans(predicted, theirs))
    gold, predicted = in_iob2(gold, ours), in_iob2(predicted, theirs)
    alike = sum(one == other for one, other in zip(gold, predicted, strict=False)) / max(len(gold), 1)
    return {
        "gold": " ".join(gold),
        "answer": " ".join(predicted),
        "correct": float(wanted == found),
        "token_accuracy": alike,
        "entities": len(wanted),
        "entities_found": len(wanted & found),
        "entities_wrong": len(found - wanted),
    }


def in_iob2(tags: list[str], way: Way) -> list[str]:
    """As they are where they are written so already: a word's wrong letter is a wrong tag, whatever the entity."""
    if way == "words" or all(tag == OUTSIDE or tag.startswith(("B-", "I-")) for tag in tags):
        return tags
    return to_iob2(tags, way)


def over_entities(*of: str, times: int = 1) -> Callable[[DataFrame], float]:
    """`times` the entities found over those that the columns `of` count together: seqeval's micro averages, 0 where
    there are none."""

    def calculate(frame: DataFrame) -> float:
        if not len(frame):
            return math.nan
        found, counted = float(frame["entities_found"].sum()), float(sum(frame[name].sum() for name in of))
        return times * found / counted if counted else 0.0

    return calculate


def types(frame: DataFrame) -> dict[str, dict[str, float]]:
    """By entity type that occurs: precision, recall, f1 and n, the number of gold entities; 0 where there are none."""
    golds, answers = ([text.split(" ") for text in frame[name]] for name in ("gold", "answer"))
    way = way_of({tag for tags in (*golds, *answers) for tag in tags})
    wanted, answered, right = Counter[str](), Counter[str](), Counter[str]()
    for gold, answer in zip(golds, answers, strict=True):
        spans, found = set(read_spans(gold, way)), set(read_spans(answer, way))
        for counts, here in ((wanted, spans), (answered, found), (right, spans & found)):
            counts.update(kind for kind, *_ in here)
    return {
        kind: {
            "precision": right[kind] / max(answered[kind], 1),
            "recall": right[kind] / max(wanted[kind], 1),
            "f1": 2 * right[kind] / (wanted[kind] + answered[kind]),
            "n": float(wanted[kind]),
        }
        for kind in sorted(wanted.keys() | answered.keys())
    }


def spans_of(golds: list[list[str]], answers: list[list[str]]) -> list[list[tuple[str, bool]]]:
    """Of each text the type of every gold entity, and whether it was found."""
    way = way_of({tag for tags in (*golds, *answers) for tag in tags})
    pairs = ((read_spans(gold, way), set(read_spans(answer, way))) for gold, answer in zip(golds, answers, strict=True))
    return [[(span[0], span in found) for span in wanted] for wanted, found in pairs]
