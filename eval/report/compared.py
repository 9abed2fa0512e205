"""What changed: every metric and every cost of the release beside the same of each reference."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.run.metrics import OF_ANSWERS
from configs.verdict import RuleEvidence, Verdict
from eval.report.headline import COMPARING
from eval.rules.evidence import Evidence, Measured
from eval.rules.figures import compare_metric, definition_of, is_whole
from eval.rules.interval import shown
from eval.rules.result import finite

if TYPE_CHECKING:
    from pandas import DataFrame

REFERENCES = ("champion", "base", "parent")  # whom a reviewer compares with first
CONFIDENCE = 0.95
DRAWS = 499  # of a bootstrap that decides nothing; the gate's rules have 1,999 (eval/statistics/figures.py)
MOST_WORK = 50_000  # rows a draw, times labels of an area under a curve: seconds a figure (6.5 on 2 GHz), not minutes
MOST_SHOWN = 6
# Of each answer: in words, with what to divide by.
ANSWERS = {
    "answer_tokens": ("tokens of an answer, mean", 1),
    "refusal_rate": ("answers that refuse, share", 1),
    "prompt_tokens": ("tokens of a prompt, mean", 1),
    "latency_seconds": ("latency, mean, ms", 1e-3),
}
# Figures of what the answers cost, in words, with what to divide by.
COSTS = {
    "latency_p50_seconds": ("latency, median, ms", 1e-3),
    "latency_p95_seconds": ("latency, 95th percentile, ms", 1e-3),
    "prompt_tokens_mean": ("tokens of a prompt, mean", 1),
    "completion_tokens_mean": ("tokens of an answer, mean", 1),
    "size_bytes": ("weights, MiB", 2**20),
    "peak_memory_bytes": ("peak memory of the server, MiB", 2**20),
}


class Compared(NamedTuple):
    """One reference's figure, the release minus it, and the interval of that where both answered the same rows one by
    one. `better`: None where the interval holds 0, where there is none, or where nobody knows which way is better."""

    before: float
    difference: float
    low: float | None = None
    high: float | None = None
    better: bool | None = None
    ratio: float | None = None  # of a cost: release by reference

    @property
    def word(self) -> str:
        """ "unclear" of an interval that holds 0; nothing of one of which nobody knows which way is better."""
        if self.better is not None:
            return "better" if self.better else "worse"
        if self.low is None or self.high is None:
            return "no interval"
        return "unclear" if self.low <= 0 <= self.high else ""


class Change(NamedTuple):
    """One figure of the release, with one entry a reference; None where that one has no such figure. `judged`: a rule
    names it."""

    name: str
    release: float
    references: list[Compared | None]
    judged: bool = False

    @property
    def has_interval(self) -> bool:
        return any(one is not None and one.low is not None for one in self.references)


def references(changes: Iterable[dict[str, Any]]) -> list[str]:
    """Of all that were measured on the same rows: champion, base, parent, then the named ones."""
    known = {
        side for values in changes for side, value in values.items() if side != "release" and finite(value) is not None
    }
    return sorted(known, key=lambda name: (REFERENCES.index(name) if name in REFERENCES else len(REFERENCES), name))


def changes(verdict: Verdict, evidence: Evidence) -> list[Change]:
    """Every metric of quality that the release and a reference have, those that a rule names first, then those with an
    interval; of a release that nothing was
    compared with all that was measured."""
    columns = references(verdict.changes.values())
    named = [written(one.evidence) for one in verdict.results]
    metrics = [name for name in verdict.changes if name not in OF_ANSWERS]
    found = [change for name in metrics if (change := change_of(name, columns, verdict, evidence))]
    kept = [one._replace(judged=one.name in named) for one in found if any(one.references) or not columns]
    return sorted(kept, key=lambda one: (not one.judged, not one.has_interval))


def change_of(metric: str, columns: list[str], verdict: Verdict, evidence: Evidence) -> Change | None:
    """None of what was not measured of the release."""
    values = {side: finite(value) for side, value in verdict.changes[metric].items()}
    release = values.get("release")
    if release is None:
        return None
    cells = [
        None if (before := values.get(name)) is None else compared(metric, name, release, before, verdict, evidence)
        for name in columns
    ]
    return Change(metric, release, cells)


def answers(verdict: Verdict, evidence: Evidence, columns: list[str]) -> list[Change]:
    """Length, refusals and seconds of the answers, beside each reference with intervals, and what they cost."""
    measured = [name for name in OF_ANSWERS if name in verdict.changes]
    found = [change for name in measured if (change := change_of(name, columns, verdict, evidence))]
    counted = [labelled(one, *ANSWERS.get(one.name, (one.name, 1))) for one in found]
    known = {one.name for one in counted}
    return counted + [one for one in costs(evidence, columns) if one.name not in known]


def labelled(change: Change, label: str, unit: float) -> Change:
    """In the unit. No change of a latency is called better or worse: its interval tells of the rows that were asked,
    and nothing of how busy the machine was."""
    timed = change.name == "latency_seconds"

    def cell(one: Compared) -> Compared:
        low, high = (None if end is None else end / unit for end in (one.low, one.high))
        return Compared(one.before / unit, one.difference / unit, low, high, None if timed else one.better)

    return Change(label, change.release / unit, [one and cell(one) for one in change.references], change.judged)


def shown_first(changes: list[Change]) -> int:
    """How many stand in sight: those that a rule names or that have an interval, else the first of all."""
    if not any(one.references for one in changes):
        return MOST_SHOWN
    return min(sum(one.judged or one.has_interval for one in changes) or MOST_SHOWN, MOST_SHOWN)


def compared(
    metric: str, reference: str, release: float, before: float, verdict: Verdict, evidence: Evidence
) -> Compared:
    """The interval of the rule that compared the two, else one of its own at 95%."""
    ends = interval_of_rule(metric, reference, verdict) or interval_of(
        metric, evidence.measured, evidence.references.get(reference)
    )
    low, high = ends or (None, None)
    up = is_higher_better(metric, evidence.measured)
    found = shown(low, high, up) if low is not None and high is not None else "unclear"
    return Compared(before, release - before, low, high, {"better": True, "worse": False}.get(found))


def is_higher_better(metric: str, measured: Measured | None) -> bool | None:
    """None where nobody said which way is better."""
    try:
        return definition_of(metric, measured or Measured({}))["higher_is_better"]
    except ValueError:
        return None


def interval_of_rule(metric: str, reference: str, verdict: Verdict) -> tuple[float, float] | None:
    for one in verdict.results:
        facts = one.evidence
        if facts.get("kind") in COMPARING[:2] and (written(facts), facts.get("reference")) == (metric, reference):
            low, high = finite(facts.get("low")), finite(facts.get("high"))
            return None if low is None or high is None else (low, high)
    return None


def written(facts: RuleEvidence) -> str:
    """A rule's metric as metrics.json has it: harness:TASK:METRIC is harness_TASK_METRIC there."""
    metric = str(facts.get("metric"))
    return metric.replace(":", "_") if metric.startswith("harness:") else metric


@lru_cache(maxsize=256)  # asked by the page, then by the comment
def interval_of(metric: str, mine: Measured | None, theirs: Measured | None) -> tuple[float, float] | None:
    """None where the two cannot be compared, or where it would take long (MOST_WORK)."""
    if mine is None or theirs is None or (is_whole(metric) and work_of(metric, mine) > MOST_WORK):
        return None
    try:
        found = compare_metric(metric, mine, theirs, CONFIDENCE, draws=DRAWS).found
    except ValueError:  # not the same rows, too few, or not a number in each
        return None
    return found.low, found.high


def work_of(metric: str, measured: Measured) -> int:
    """Rows to be weighed in each draw; of an area under a curve once a label."""
    labels = len(measured.record.get("classes") or {}) if metric.endswith("_auc") else 1
    return (0 if measured.frame is None else len(measured.frame)) * max(labels, 1)


def costs(evidence: Evidence, columns: list[str]) -> list[Change]:
    """What the answers cost, beside the same of each reference; of one run each, so without an interval."""
    sides = [evidence.measured, *(evidence.references.get(name) for name in columns)]
    release, *others = [(one.record.get("cost") or {}) if one else {} for one in sides]
    found = []
    for name, figure in release.items():
        if name == "latency_mean_seconds":
            continue  # the median and the 95th percentile say more
        label, unit = COSTS.get(name, (name.replace("_", " "), 1))
        value = finite(figure)
        if value is not None:
            befores = [finite(other.get(name)) for other in others]
            cells = [
                None
                if before is None
                else Compared(before / unit, (value - before) / unit, ratio=value / before if before else None)
                for before in befores
            ]
            found.append(Change(label, value / unit, cells))
    return found


def paired_with(evidence: Evidence) -> str | None:
    """Whom the flips and the slices are held against: the champion, else the base, else the parent, of those measured
    on the same rows."""
    rows = evidence.measured.record.get("dataset") if evidence.measured else None
    return next(
        (
            name
            for name in REFERENCES
            if name in evidence.references and evidence.references[name].record.get("dataset") == rows
        ),
        None,
    )


def frames(evidence: Evidence) -> tuple[DataFrame | None, DataFrame | None]:
    """The release's predictions and those of its first reference, by id."""
    name = paired_with(evidence)
    return frame_of(evidence.measured), frame_of(evidence.references[name]) if name else None


def frame_of(measured: Measured | None) -> DataFrame | None:
    frame = measured.frame if measured else None
    return frame.set_index("id") if frame is not None and "id" in frame else frame
