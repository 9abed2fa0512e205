"""Group fairness of labelled rows: a label that one group is given oftener fails, noise among small groups does not."""

from __future__ import annotations

from typing import Any

import numpy
import pandas
import pytest

from eval.metrics.groups import conditions, flagged, group_difference
from tests.support.deciding import MINE, judged, measured

pytestmark = pytest.mark.unit
PARITY, ODDS = "demographic_parity_difference", "equalized_odds_difference"
FAIRLEARN = [
    (0, 0.1660079051383399, 0.2564102564102564),
    (1, 0.17129629629629628, 0.3076923076923077),
    (2, 0.05059523809523808, 0.25),
    (3, 0.08333333333333331, 0.2272727272727273),
]


def rows_of(rates: dict[str, tuple[float, float]], n: int = 300, seed: int = 0, **columns: Any) -> pandas.DataFrame:
    """`rates`: by group, how often `toxic` is given to rows that are, and to rows that are not. Half of all are."""
    random, parts = numpy.random.default_rng(seed), []
    for group, (right, wrong) in rates.items():
        has = numpy.arange(n) % 2 == 0
        given = random.random(n) < numpy.where(has, right, wrong)
        sides = {"gold": has, "answer": given}
        labels = {name: numpy.where(side, "toxic", "fine") for name, side in sides.items()}
        parts.append(pandas.DataFrame(labels).assign(**{"group:gender": group}))
    frame = pandas.concat(parts, ignore_index=True)
    return frame.assign(id=[f"{one:05}" for one in range(len(frame))], **columns)


def decided(frame: pandas.DataFrame | None, metric: str = PARITY, maximum: float = 0.2, **keys: Any) -> Any:
    rule = {"rule": "fairness", "metric": metric, "column": "gender", "label": "toxic", "maximum_difference": maximum}
    return judged(rule | keys, measured(MINE, frame))


@pytest.mark.parametrize(("seed", "parity", "odds"), FAIRLEARN)
def test_the_figures_are_fairlearns(seed: int, parity: float, odds: float) -> None:
    """Computed by fairlearn 0.15.0 from the same rows, three groups, label a against the rest."""
    random, n = numpy.random.default_rng(seed), 60
    columns = {name: random.choice([*"abc"], n) for name in ("gold", "answer")}
    groups = {"group:g": random.choice([*"xyz"], n)}
    frame = pandas.DataFrame({"id": [str(one) for one in range(n)], **columns, **groups})
    rows = flagged(frame, "group:g", "a")
    assert group_difference(conditions(PARITY, rows)) == pytest.approx(parity)
    assert group_difference(conditions(ODDS, rows)) == pytest.approx(odds)


def test_a_label_that_one_group_is_given_oftener_fails() -> None:
    fair = rows_of({"women": (0.8, 0.1), "men": (0.8, 0.1), "others": (0.8, 0.1)})
    unfair = rows_of({"women": (0.8, 0.7), "men": (0.8, 0.1), "others": (0.8, 0.1)})
    for metric in (PARITY, ODDS):
        good, bad = decided(fair, metric, 0.25), decided(unfair, metric, 0.1)
        assert (good.outcome, bad.outcome) == ("pass", "fail")
        assert good.evidence["low"] <= good.evidence["value"] <= good.evidence["high"] <= 0.25
        assert bad.evidence["low"] > 0.1 and f"{metric} of toxic by gender is" in bad.sentence


def test_odds_find_what_parity_hides() -> None:
    """Both groups get the label as often, one of them wrongly."""
    frame = rows_of({"women": (0.9, 0.1), "men": (0.5, 0.5)}, 400)
    assert decided(frame, PARITY, 0.25).outcome == "pass" and decided(frame, ODDS, 0.25).outcome == "fail"


def test_noise_among_many_small_groups_is_no_difference() -> None:
    frame = rows_of({f"group {one}": (0.6, 0.4) for one in range(12)}, 40)
    found = decided(frame, PARITY, 0.05)
    assert found.evidence["value"] > 0.1 and found.outcome == "inconclusive"
    assert "the largest of 66 pairs" in found.evidence["method"]


def test_small_groups_are_named_and_rows_without_a_group_belong_to_none() -> None:
    frame = rows_of({"women": (0.8, 0.1), "men": (0.8, 0.1), "few": (0.0, 1.0), "": (0.0, 1.0)}, 300)
    few = frame[frame["group:gender"] != "few"]
    frame = pandas.concat([few, frame[frame["group:gender"] == "few"].iloc[:10]], ignore_index=True)
    frame.loc[frame["group:gender"] == "", "group:gender"] = None
    found = decided(frame, maximum=0.25)
    assert found.outcome == "pass" and found.evidence["too_small"] == ["few"]
    assert "too small to judge: few" in found.sentence
    assert decided(frame, minimum_size=301).outcome == "inconclusive"


def test_rows_that_share_something_tell_less() -> None:
    frame = rows_of({"women": (0.8, 0.1), "men": (0.8, 0.1)}, 200)
    document = [f"d{one // 8}" for one in range(len(frame))]
    alone, together = decided(frame), decided(frame.assign(cluster=document))
    assert together.evidence["value"] == alone.evidence["value"]
    assert together.evidence["high"] > alone.evidence["high"]
    few = frame.assign(cluster=[f"d{one % 3}" for one in range(len(frame))])
    assert decided(few).outcome == "inconclusive" and decided(few).evidence["more_examples"] == 17
    assert decided(few, point=True).outcome == "pass", "who asks for the point figure needs no interval"


def test_what_was_not_measured_never_passes() -> None:
    frame = rows_of({"women": (0.8, 0.1), "men": (0.8, 0.1)})
    for missing in (None, frame.drop(columns=["group:gender"]), frame.drop(columns=["gold"])):
        assert decided(missing, maximum=1.0).outcome == "inconclusive"
    assert decided(rows_of({"women": (0.8, 0.1)}), maximum=1.0).outcome == "inconclusive", "one group differs from none"
    only = frame[frame["gold"] == "fine"]
    assert decided(only, ODDS, 1.0).outcome == "inconclusive", "nobody has the label"


def test_of_many_labels_each_is_by_itself() -> None:
    frame = rows_of({"women": (0.8, 0.7), "men": (0.8, 0.1)})
    lists: dict[str, Any] = {f"{side}_labels": [[one, "loud"] for one in frame[side]] for side in ("gold", "answer")}
    found = decided(frame.assign(**lists), PARITY, 0.1)
    assert found.outcome == "fail" and found.evidence["value"] == decided(frame, PARITY, 0.1).evidence["value"]


def test_a_true_difference_of_exactly_the_bound_seldom_passes() -> None:
    """True difference 0.2: 60 draws, of which 2.5% may pass (4 of 60 is the 98th percentile of that)."""
    passed = 0
    for seed in range(60):
        one, other = rows_of({"women": (0.45, 0.45)}, 25, seed), rows_of({"men": (0.25, 0.25)}, 100, 1000 + seed)
        frame = pandas.concat([one, other], ignore_index=True)
        frame["id"] = [f"{number:04}" for number in range(len(frame))]
        passed += decided(frame, PARITY, 0.2).outcome == "pass"
    assert passed <= 4


def test_folds_whose_models_treat_the_groups_unlike_widen_the_difference() -> None:
    """Each of four models answered a quarter of the rows; the mean gap is the same."""
    alike, apart = [0.3] * 4, [0.3, 0.0, 0.6, 0.3]

    def answered(gaps: list[float]) -> pandas.DataFrame:
        parts = [
            rows_of({"women": (0.5 + gap / 2, 0.5 + gap / 2), "men": (0.5 - gap / 2, 0.5 - gap / 2)}, 100, seed=3)
            for gap in gaps
        ]
        whole = pandas.concat([part.assign(fold=str(number)) for number, part in enumerate(parts)], ignore_index=True)
        return whole.assign(id=[f"{one:05}" for one in range(len(whole))])

    same, differ = (decided(answered(gaps), maximum=0.5) for gaps in (alike, apart))
    assert (same.outcome, differ.outcome) == ("pass", "inconclusive")
    assert "4 folds" in same.evidence["method"] and differ.evidence["high"] > 0.6 > same.evidence["high"]
