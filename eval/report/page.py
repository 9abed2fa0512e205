"""report.html: one page that opens anywhere, offline. Nothing is fetched, and every text of an example is text."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.verdict import RuleResult, Verdict
from eval.report import summary
from eval.report.markdown import arrow, figure, interval, printable, value
from eval.report.plots import Forest, calibration, confusion, interval_plot, slices_plot
from eval.rules.evidence import Evidence
from eval.rules.result import finite

if TYPE_CHECKING:
    from jinja2 import Template

MOST_FLIPS = 500  # of each kind: a page of thousands would be slow to open
LONGEST = 4000  # characters of one text of an example
LABELS = {
    "n": "examples",
    "p_value": "p",
    "p_adjusted": "adjusted p",
    "minimum_detectable_effect": "detectable effect",
    "power": "power",
    "more_examples": "more examples to decide",
    "reference_value": "reference",
    "bound": "bound",
}


class Card(NamedTuple):
    """A rule with its plot, its slices' plot and its figures."""

    result: RuleResult
    plot: Forest | None
    slices: Forest | None
    figures: list[tuple[str, str]]


@cache
def template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=readable,
    )
    environment.globals.update(figure=figure, arrow=arrow)
    return environment.get_template("report.html.jinja")


def write_page(verdict: Verdict, evidence: Evidence, facts: dict[str, str], questions: dict[str, str]) -> str:
    """Pure: the same verdict and evidence give the same bytes."""
    return template().render(parts_of(verdict, evidence, facts, questions)) + "\n"


def readable(one: Any) -> Any:
    """Texts without the characters that deceive, and not too long; what is markup already stays."""
    if type(one) is not str:
        return one
    return printable(one if len(one) <= LONGEST else one[: LONGEST - 1] + "…")


def parts_of(
    verdict: Verdict, evidence: Evidence, facts: dict[str, str], questions: dict[str, str]
) -> dict[str, object]:
    mine, metric = summary.frame_of(evidence.measured), summary.main_metric(verdict, evidence)
    record = evidence.measured.record if evidence.measured else {}
    flips, reference = summary.flips(evidence, questions), summary.reference_of(evidence)
    shown = [flip for kind in ("lost", "gained") for flip in [one for one in flips if one.kind == kind][:MOST_FLIPS]]
    subject = {
        "Release": verdict.release,
        "Champion": verdict.champion or "none",
        "Test rows": verdict.dataset or "none",
    }
    return {
        "verdict": verdict,
        "headline": summary.headline(verdict),
        "reference": reference,
        "metric": metric,
        "n": record.get("n"),
        "cards": [card_of(one) for one in summary.by_severity(verdict.results)],
        "changes": summary.changes(verdict),
        "slices": summary.slices(evidence, metric),
        "flips": shown,
        "hidden": len(flips) - len(shown),
        "counts": {kind: sum(one.kind == kind for one in flips) for kind in ("lost", "gained")},
        "flip_slices": sorted({name for flip in shown for name in flip.slices}),
        "confusion": confusion(mine),
        "bins": calibration(mine),
        "behaviour": record.get("behaviour") or {},
        "cost": record.get("cost") or {},
        "quantization": beside_parent(record.get("metrics") or {}),
        "facts": subject | facts,
    }


def card_of(one: RuleResult) -> Card:
    evidence = one.evidence
    title = "difference" if "difference" in evidence else "value"
    figures = [
        (title, value(one)),
        (
            f"{evidence['confidence']:.0%} interval" if finite(evidence.get("confidence")) else "interval",
            interval(one),
        ),
    ]
    figures += [(label, figure(evidence.get(name))) for name, label in LABELS.items()]
    figures += [(name, str(evidence[name])) for name in ("reference", "method") if evidence.get(name) is not None]
    return Card(one, interval_plot(one), slices_plot(one), [(label, text) for label, text in figures if text])


def beside_parent(metrics: dict[str, float]) -> list[tuple[str, float | None, float | None]]:
    """(figure, release, unquantized parent): what metrics.json has of both, then what only the comparison has."""
    both = [
        (name, finite(value), finite(metrics[f"parent_{name}"]))
        for name, value in metrics.items()
        if f"parent_{name}" in metrics
    ]
    alone = [
        (name.removeprefix("parent_"), finite(metrics.get(name)), None)
        for name in ("parent_agreement", "parent_kl_divergence", "size_ratio", "speed_ratio")
    ]
    return both + [one for one in alone if one[1] is not None]
