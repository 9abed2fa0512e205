"""report.html: one page that opens anywhere, offline. Nothing is fetched, and every text of an example is text."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.release import short
from configs.verdict import RuleResult, Verdict
from eval.report import compared, labels, summary
from eval.report.headline import by_severity, decisive, figure_of, headline, judged_against, limit, looks, others, share
from eval.report.markdown import arrow, figure, interval, printable, spread, value
from eval.report.plots import Forest, calibration, interval_plot, releases_plot, slices_plot
from eval.rules.evidence import Evidence
from eval.rules.result import finite

if TYPE_CHECKING:
    from jinja2 import Template

MOST_FLIPS = 500  # of each kind: a page of thousands would be slow to open
LONGEST = 4000  # characters of one text of an example
LABELS_SHOWN, DIFFERENCES_SHOWN = 10, 8


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
    environment.globals.update(
        figure=figure, arrow=arrow, interval=interval, value=value, spread=spread, short=short, share=share
    )
    return environment.get_template("report.html.jinja")


def write_page(verdict: Verdict, evidence: Evidence, background: summary.Background) -> str:
    """Pure: the same verdict and evidence give the same bytes."""
    return template().render(parts_of(verdict, evidence, background)) + "\n"


def readable(one: Any) -> Any:
    """Texts without the characters that deceive, and not too long; what is markup already stays."""
    if type(one) is not str:
        return one
    return printable(one if len(one) <= LONGEST else one[: LONGEST - 1] + "…")


def parts_of(verdict: Verdict, evidence: Evidence, background: summary.Background) -> dict[str, object]:
    mine, theirs = compared.frames(evidence)
    metric, decided = summary.main_metric(verdict, evidence), decisive(verdict)
    record = evidence.measured.record if evidence.measured else {}
    weakest = labels.weakest(evidence)
    changes = compared.changes(verdict, evidence)
    flips, columns = summary.flips(evidence, background.questions), compared.references(verdict.changes.values())
    shown = [flip for kind in ("lost", "gained") for flip in [one for one in flips if one.kind == kind][:MOST_FLIPS]]
    subject = {
        "Release": verdict.release,
        "Champion": verdict.champion or "none",
        "Environment": (verdict.binding.environment if verdict.binding else "") or "",
        "Test rows": verdict.dataset or "none",
        "Gate": background.gate,
    }
    return {
        "verdict": verdict,
        "headline": headline(verdict),
        "others": others(verdict),
        "looks": looks(verdict),
        "judged_against": judged_against(verdict),
        "decided": card_of(decided) if decided else None,
        "not_judged": summary.not_judged(verdict, evidence),
        "reference": compared.paired_with(evidence),
        "metric": metric,
        "n": record.get("n"),
        "cards": [card_of(one) for one in by_severity(verdict.results) if one is not decided],
        "columns": [short(name) for name in columns],
        "changes": changes,
        "changes_shown": compared.shown_first(changes),
        "costs": compared.answers(verdict, evidence, columns),
        "page_draws": compared.DRAWS,
        "background": background,
        "differences_shown": DIFFERENCES_SHOWN,
        "trend": releases_plot(background.releases, str(metric)),
        "slices": summary.slices(verdict, evidence, metric),
        "small_slices": summary.small_slices(evidence),
        "flips": shown,
        "hidden": len(flips) - len(shown),
        "counts": {kind: sum(one.kind == kind for one in flips) for kind in ("lost", "gained")},
        "flip_slices": sorted({name for flip in shown for name in flip.slices}),
        "labels": weakest,
        "many_labels": len(weakest) > labels.MOST_LABELS,
        "labels_shown": LABELS_SHOWN,
        "confused": labels.confused(mine, theirs),
        "matrix": labels.matrix(mine),
        "bins": calibration(mine),
        "behaviour": record.get("behaviour") or {},
        "quantization": beside_parent(record.get("metrics") or {}),
        "facts": {name: fact for name, fact in (subject | background.facts).items() if fact},
    }


def card_of(one: RuleResult) -> Card:
    """Its figures in words; `reference` is a name, `reference_value` that one's figure."""
    facts, found = one.evidence, figure_of(one)
    confidence, power, more = (finite(facts.get(name)) for name in ("confidence", "power", "more_examples"))
    reference = str(facts.get("reference") or "reference")
    parity = facts.get("kind") == "parity"
    figures = [
        ("agreement" if parity else "difference" if found and found.is_difference else "value", value(one)),
        ("mean difference", figure(facts.get("difference")) if parity else ""),
        (f"{100 * confidence:.4g}% interval" if confidence else "interval", interval(one)),
        (short(reference), figure(facts.get("reference_value"))),
        ("allowed", limit(one)),
        ("rows", figure(facts.get("n"))),
        ("p", figure(facts.get("p_value"))),
        ("detectable difference", figure(facts.get("minimum_detectable_effect"))),
        (
            "power",
            f"would have passed in {share(power if power > 0.99 else round(power, 2))} of cases, were the two alike"
            if power is not None
            else "",
        ),
        ("to decide", f"about {more:,.0f} more rows" if more is not None else ""),
        ("method", str(facts.get("method") or "")),
    ]
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
