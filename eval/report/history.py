"""The releases of a name, oldest first: what each was measured at, and what was said of it."""

from __future__ import annotations

from typing import NamedTuple

from configs.errors import TunegateError
from configs.verdict import Verdict
from eval.report.since import read_verdict
from eval.rules.result import finite
from infra.dvc.judgements import verdict_path
from infra.dvc.releases import folder_of, list_releases

MOST = 8


class Point(NamedTuple):
    """One release. `low`, `high`: of the metric's own value, where a rule of its gate asked for one. `same_rows`: None
    where its verdict is not here to say so."""

    reference: str
    created: str
    outcome: str
    value: float
    low: float | None
    high: float | None
    same_rows: bool | None


def published(name: str, metric: str | None, verdict: Verdict) -> list[Point]:
    """Those that releases/ knows, be it by their pointers alone, the last MOST of them; none where it cannot be
    read."""
    try:
        rows = list_releases() if metric else []
    except (TunegateError, ValueError, OSError):  # a release that cannot be read costs the history, not the report
        return []
    found, environment = [], verdict.binding.environment if verdict.binding else None
    for row in rows:
        value = finite((row["metrics"] or {}).get(str(metric)))
        if row["name"] != name or value is None or row["reference"] == verdict.release:
            continue
        folder = folder_of(row["reference"]) if row["here"] else None
        judged = read_verdict(verdict_path(folder, environment) if folder else None)
        low, high = interval(judged, str(metric))
        same = None if judged is None else judged.dataset == verdict.dataset
        found.append(Point(row["reference"], row["created"], row["verdict"], value, low, high, same))
    return found[-MOST:]


def this_one(metric: str | None, verdict: Verdict, value: object, created: str) -> list[Point]:
    number = finite(value)
    if metric is None or number is None:
        return []
    return [Point(verdict.release, created, verdict.outcome, number, *interval(verdict, metric), True)]


def interval(verdict: Verdict | None, metric: str) -> tuple[float | None, float | None]:
    for one in verdict.results if verdict else ():
        facts = one.evidence
        if facts.get("metric") == metric and facts.get("kind") in ("threshold", "calibration"):
            return finite(facts.get("low")), finite(facts.get("high"))
    return None, None
