"""Group fairness of labelled rows, by the definitions of fairlearn (Bird et al. 2020, fairlearn.metrics:
demographic_parity_difference, equalized_odds_difference with agg="worst_case"), one label against the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandas import DataFrame


def flagged(predictions: DataFrame, column: str, label: str) -> DataFrame:
    """Columns id, cluster and fold where there is one, group, has (the label of the row is `label`), given (that of the
    answer is). Rows without a value in `column` belong to no group."""
    rows = predictions[predictions[column].notna()]
    many = "gold_labels" in rows
    gold, answer = ("gold_labels", "answer_labels") if many else ("gold", "answer")
    kept = rows[[name for name in ("id", "cluster", "fold") if name in rows]]
    found: DataFrame = kept.assign(
        group=rows[column].astype(str),
        has=[label in one if many else one == label for one in rows[gold]],
        given=[float(label in one if many else one == label) for one in rows[answer]],
    ).reset_index(drop=True)
    return found


def conditions(metric: str, rows: DataFrame) -> list[DataFrame]:
    """The rows over which a rate of `given` is taken: all (demographic parity), or those that have the label and those
    that have not (equalized odds: true and false positive rates)."""
    if metric == "demographic_parity_difference":
        return [rows]
    return [rows[rows["has"]], rows[~rows["has"]]]


def group_difference(parts: list[DataFrame]) -> float:
    """The largest difference of two groups' rates within one part."""
    rates = [part.groupby("group")["given"].mean() for part in parts]
    return float(max(one.max() - one.min() for one in rates))
