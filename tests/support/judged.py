"""A judged release for the tests of its pages: a classifier that lost a slice, with rows whose texts are hostile."""

from __future__ import annotations

import json
from typing import Any

import numpy
import pandas

from configs.verdict import RuleResult, Verdict, conjunction
from eval.rules.evidence import Evidence, Measured

RELEASE, CHAMPION, BASE = (
    f"{name}@sha256:{letter * 64}" for name, letter in (("sentiment", "a"), ("sentiment", "b"), ("base", "c"))
)
HOSTILE = (
    "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\"> "
    "| `a` \n# @all $x_1$ [l](http://evil.example) \u202edeceit"
)
LABELS = ("negative", "neutral", "positive")


def predictions(seed: int, skill: float, broken: bool = False, n: int = 240) -> pandas.DataFrame:
    """`broken`: rows of the topic travel are mostly wrong."""
    random, truth = numpy.random.default_rng(seed), numpy.random.default_rng(0)
    gold = truth.choice(LABELS, n)
    topics = truth.choice(["food", "travel", "work"], n)
    chance = numpy.where((topics == "travel") & broken, 0.35, skill)
    answer = numpy.where(random.random(n) < chance, gold, random.choice(LABELS, n))
    confidence = 0.5 + random.random(n) / 2
    frame = pandas.DataFrame({"id": [f"row-{number:03}" for number in range(n)], "gold": gold, "answer": answer})
    frame["correct"] = (frame["gold"] == frame["answer"]).astype(float)
    frame["confidence"] = confidence
    frame["probabilities"] = [
        json.dumps({label: one if label == predicted else (1 - one) / 2 for label in LABELS})
        for one, predicted in zip(confidence, answer, strict=True)
    ]
    slices = [[f"label={label}", f"topic={topic}"] for label, topic in zip(gold, topics, strict=True)]
    return frame.assign(slices=pandas.Series(slices))


def measured(reference: str, frame: pandas.DataFrame, **record: Any) -> Measured:
    names = sorted({name for row in frame["slices"] for name in row})
    slices = {}
    for name in names:
        part = frame[[name in row for row in frame["slices"]]]
        slices[name] = {"n": len(part), "accuracy": float(part["correct"].mean())}
    metrics = {"accuracy": float(frame["correct"].mean()), "log_loss": 0.5, **record.pop("metrics", {})}
    found: Any = {"release": reference, "dataset": "sha256:rows", "n": len(frame), "metrics": metrics, "slices": slices}
    return Measured(found | record, frame=frame)


def hostile(frame: pandas.DataFrame, row: int = 0) -> pandas.DataFrame:
    """One row whose gold label, answer, id and slice are an attack, and which flips."""
    changed: Any = frame.copy()
    changed.loc[row, ["id", "gold"]] = ["<b>id</b>", HOSTILE]
    changed.at[row, "slices"] = [HOSTILE, "quote\"'slice"]
    found: pandas.DataFrame = changed
    return found


BEHAVIOUR = {
    "typos": {
        "kind": "robustness",
        "n": 240,
        "metric": "accuracy",
        "original": 0.9,
        "changed": 0.8,
        "drop": 0.1,
        "flip_rate": 0.125,
        "gap": None,
        "groups": {},
    },
    "names": {
        "kind": "invariance",
        "n": 60,
        "metric": "probability:positive",
        "original": 0.5,
        "changed": 0.5,
        "drop": 0.0,
        "flip_rate": 0.02,
        "gap": 0.03,
        "groups": {"women": {"n": 30, "mean": 0.52}, "men": {"n": 30, "mean": 0.49}},
    },
}
QUANTIZED = {
    "parent_accuracy": 0.91,
    "accuracy_change": -0.1,
    "parent_agreement": 0.93,
    "size_ratio": 0.38,
    "parent_kl_divergence": 0.02,
    "speed_ratio": 1.4,
}


def evidence() -> Evidence:
    mine: Any = hostile(predictions(1, 0.93, broken=True))
    champion: Any = hostile(predictions(2, 0.92))
    base = hostile(predictions(3, 0.3))
    mine.loc[0, ["answer", "correct"]] = [HOSTILE + "!", 0.0]
    champion.loc[0, ["answer", "correct"]] = [HOSTILE, 1.0]
    ours = measured(
        RELEASE,
        mine,
        metrics=QUANTIZED,
        behaviour=BEHAVIOUR,
        cost={"latency_p95_seconds": 0.021, "size_bytes": 35_000_000},
    )
    return Evidence(RELEASE, ours, CHAMPION, {"champion": measured(CHAMPION, champion), "base": measured(BASE, base)})


def compared(outcome: str, difference: float, low: float, high: float, **more: Any) -> dict[str, Any]:
    figures = {
        "kind": "non_inferior_to",
        "metric": "accuracy",
        "difference": difference,
        "low": low,
        "high": high,
        "confidence": 0.95,
        "n": 240,
    }
    figures |= {
        "method": "Newcombe 1998, method 10",
        "bound": -0.05,
        "direction": "at least",
        "p_value": 0.0004,
        "reference": "champion",
    }
    return {"outcome": outcome, "evidence": figures | {"minimum_detectable_effect": 0.062, "power": 0.41} | more}


def slice_row(name: str, n: int, difference: float, low: float, high: float, **p_values: float) -> dict[str, Any]:
    return {"name": name, "n": n, "difference": difference, "low": low, "high": high, **p_values}


def verdict() -> Verdict:
    """Failing: what broke is a slice."""
    slices = [
        slice_row("topic=travel", 79, -0.44, -0.56, -0.3, p_value=1e-7, p_adjusted=3e-7),
        slice_row("topic=food", 82, 0.01, -0.06, 0.08, p_value=0.9, p_adjusted=1.0),
        slice_row(HOSTILE, 20, 0.05, -0.04, 0.2, p_value=0.6, p_adjusted=1.0),
    ]
    threshold = {"kind": "threshold", "metric": "accuracy", "value": 0.7958, "low": 0.74, "high": 0.842, "n": 240}
    rows = [
        {
            "rule": "accuracy >= 0.7",
            "outcome": "pass",
            "sentence": "accuracy is 0.7958, its 95% interval [0.740, 0.842].",
            "evidence": {**threshold, "bound": 0.7, "direction": "at least"},
        },
        {
            "rule": "accuracy non-inferior to champion by 0.05",
            "sentence": "accuracy differs by -0.138 on 240 examples.",
            **compared("fail", -0.138, -0.2, -0.08),
        },
        {
            "rule": "accuracy superior to base",
            "sentence": "accuracy differs by +0.020.",
            **compared("inconclusive", 0.02, -0.04, 0.08, bound=0.0, more_examples=410, reference="base"),
        },
        {
            "rule": "every slice non-inferior to champion by 0.1",
            "sentence": f"The worst slice is topic=travel: -0.440. {HOSTILE}",
            **compared("fail", -0.44, -0.56, -0.3, kind="slice_minimum", bound=-0.1, slices=slices),
        },
        {
            "rule": "expected_calibration_error <= 0.1",
            "outcome": "inconclusive",
            "sentence": "expected_calibration_error is missing.",
            "evidence": {"value": None},
        },
    ]
    results = [RuleResult.model_validate(row) for row in rows]
    changes = {
        "log_loss": {"release": 0.5, "champion": 0.4},
        "accuracy": {"release": 0.7958, "champion": 0.9333, "base": 0.6, "parent": None},
    }
    return Verdict(
        release=RELEASE,
        champion=CHAMPION,
        outcome=conjunction(results),
        results=results,
        dataset="sha256:rows",
        holdout_uses=3,
        changes=changes,
    )
