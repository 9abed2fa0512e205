"""What a rule asks, by what formula and method, and this run's numbers step by step: `tunegate gate --explain`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from configs.errors import InputError
from configs.rules.gate import GateConfig
from configs.verdict import RuleEvidence, RuleResult, SliceEvidence

PAIRED = (
    "0 or 1 an example: Tango's paired score interval (1998) and exact McNemar's p. Other values, fewer than 50 "
    "examples, and clusters: the bound of Learned-Miller and Thomas (2019). Figures of the whole set: paired Bayesian "
    "bootstrap (Rubin 1981). Power: the chance that this interval clears the bound, were the two alike."
)
SINGLE = (
    "Clopper and Pearson's interval (1934) for 0 or 1, the bound of Learned-Miller and Thomas (2019) for means and "
    "clusters, Bayesian bootstrap (Rubin 1981) for figures of the whole set."
)
POINT = "The figure as it was measured, without an interval."


class Explanation(NamedTuple):
    asks: str
    formula: str
    method: str


EXPLANATIONS: dict[str, Explanation] = {
    "threshold": Explanation(
        "Is one metric good enough in itself?",
        "the interval of the figure within minimum and maximum; with point: true the figure itself",
        SINGLE,
    ),
    "non_inferior_to": Explanation(
        "Is the release shown not to be worse than another by more than a margin?",
        "pass: low end of the interval of (release - reference) > -margin; fail: high end < -margin; else inconclusive "
        "(signs turned where lower is better)",
        f"{PAIRED} A 95% interval spends a one-sided 2.5%.",
    ),
    "superior_to": Explanation(
        "Is the release shown to be better than another?",
        "pass: low end > margin; fail: high end < margin; else inconclusive",
        PAIRED,
    ),
    "drift": Explanation(
        "Is a figure that is better neither way, as the length of answers, still about the reference's?",
        "pass: the interval of mean(release) / mean(reference) within [1 / maximum_ratio, maximum_ratio]; "
        "fail: all of it outside; else inconclusive",
        "The ratios r that the bound of Learned-Miller and Thomas (2019) on the mean of (release - r * reference) does "
        "not refuse (Fieller 1954).",
    ),
    "slice_minimum": Explanation(
        "Is any group of rows left behind?",
        "pass: every slice's interval holds; fail: some slice's interval at 1 - (1 - confidence) / slices does not; "
        "else inconclusive; with point: true the figures themselves",
        f"{SINGLE} {PAIRED} To fail, Bonferroni over all slices judged; to pass, none is due (Berger 1982).",
    ),
    "calibration": Explanation(
        "May stated probabilities be trusted?",
        "interval <= maximum; with point: true the figure itself",
        f"Expected calibration error (Guo 2017) or Brier 1950. {SINGLE}",
    ),
    "robustness": Explanation(
        "Do perturbed questions change little?",
        "of each perturbation by itself: interval of the drop <= maximum_drop, of the flip rate <= maximum_flip_rate",
        f"CheckList (Ribeiro 2020). {PAIRED}",
    ),
    "fairness": Explanation(
        "Do answers hang on a name, a gender, an origin?",
        "of each group by itself: interval of the mean absolute difference of a pair <= maximum_gap, "
        "of the share of pairs answered differently <= maximum_flip_rate; with metric: interval of the largest "
        "difference of two groups in how often label is given <= maximum_difference",
        f"{SINGLE} Groups: fairlearn's definitions (Bird 2020), Bonferroni over pairs to fail.",
    ),
    "parity": Explanation(
        "Does the server answer as the trainer's own model did?",
        "agreement >= evaluate.parity.min_agreement and difference <= max_difference",
        POINT,
    ),
    "quantization": Explanation(
        "Does the release answer as its unquantized parent?",
        "intervals: agreement >= minimum, KL(parent || release) <= maximum, drop <= maximum_drop",
        f"KL by drawn rows. {SINGLE} {PAIRED}",
    ),
    "size": Explanation(
        "Is it small enough?",
        "bytes of weights <= maximum_bytes, or / the other's <= maximum_ratio",
        "Counted from the manifest.",
    ),
    "latency": Explanation(
        "Is it quick enough under load?",
        "figure <= maximum, or / blue's <= maximum_ratio",
        "Percentiles of the load test.",
    ),
    "goodput": Explanation(
        "Does it get enough through under load?",
        "figure >= minimum, or / blue's >= minimum_ratio; error_rate <= maximum",
        "Good answers over the test's time.",
    ),
}


def choose(rules: GateConfig, wanted: str) -> list[Any]:
    """The rules of a gate that `wanted` means: a number from 1, a kind, or a name. Raises InputError where none is."""
    numbered = [rule for number, rule in enumerate(rules.rules, 1) if wanted in (str(number), rule.rule, rule.name)]
    if not numbered:
        known = "\n".join(f"  {number}  {rule.name} ({rule.rule})" for number, rule in enumerate(rules.rules, 1))
        raise InputError(
            f"--explain {wanted}: no such rule in this gate, expected a number, a kind or a name of\n{known}",
            hint="tunegate gate --explain list",
        )
    return numbered


def explain_kind(kind: str) -> str:
    """Raises InputError for an unknown kind."""
    if kind not in EXPLANATIONS:
        raise InputError(
            f"--explain {kind}: no such rule, expected one of {', '.join(EXPLANATIONS)}",
            hint="tunegate gate --explain list",
        )
    one = EXPLANATIONS[kind]
    return f"{kind}\n  asks     {one.asks}\n  formula  {one.formula}\n  method   {one.method}"


def explain_result(found: RuleResult) -> str:
    steps = "\n".join(f"  {number}. {step}" for number, step in enumerate(steps_of(found.evidence), 1))
    return f"{found.rule}\n{steps}{chr(10) if steps else ''}  => {found.outcome}: {found.sentence}"


def steps_of(facts: RuleEvidence) -> Iterator[str]:
    """Only what was measured."""
    n = f" on {facts['n']:.0f} examples" if facts.get("n") is not None else ""
    if "reference_value" in facts and "value" in facts:
        sides = f"release {facts['value']:.4g}, {facts.get('reference')} {facts['reference_value']:.4g}"
        yield f"{facts.get('metric')}: {sides}, on {facts['n']} shared examples"
    elif "value" in facts:
        yield f"{facts.get('metric', 'value')} = {facts['value']:.4g}{n}"
    if facts.get("kind") == "parity" and "difference" in facts:
        yield f"mean difference of probabilities {facts['difference']:.4g}"
    elif "gained" in facts:
        gained, lost = facts["gained"], facts["lost"]
        share = f"({gained} - {lost}) / {facts['n']} = {facts['difference']:+.4f}"
        yield f"{gained} examples gained, {lost} lost: {share}"
    elif "difference" in facts:
        yield f"difference = {facts['difference']:+.4f}"
    if "low" in facts and "high" in facts:
        interval = f"[{facts['low']:+.4f}, {facts['high']:+.4f}] ({facts.get('method', '')})"
        yield f"{100 * facts.get('confidence', 0.95):.4g}% interval {interval}"
    if facts.get("point"):
        yield "decided by the figure as it was measured, not by its interval: the rule says point: true"
    if "p_value" in facts:
        yield f"p = {facts['p_value']:.4g} of no difference at all"
    if "minimum_detectable_effect" in facts:
        yield f"a true difference of {facts['minimum_detectable_effect']:.4g} would be seen with 80% power"
    if "power" in facts:
        yield f"were the two truly alike, this rule would pass with {facts['power']:.0%} chance"
    yield from (f"slice {told}" for told in map(slice_step, facts.get("slices", [])[:10]))
    if facts.get("too_small"):
        yield f"too small to be judged: {', '.join(map(str, facts['too_small'][:10]))}"
    if "bound" in facts:
        yield f"the bound: {facts.get('direction', '')} {facts['bound']:+.4g}"
    if "more_examples" in facts:
        yield f"about {facts['more_examples']:,} more examples would decide"


def slice_step(row: SliceEvidence) -> str:
    """Verdicts of tunegate 0.2 and before decided slices by p, adjusted by Holm; later ones by interval."""
    figure = f"difference {row['difference']:+.4f}" if "difference" in row else f"value {row['value']:.4g}"
    parts = [f"{row['name']}: {figure} on {row['n']}"]
    if "low" in row and "high" in row:
        parts.append(f"interval [{row['low']:+.4f}, {row['high']:+.4f}]")
    if "p_adjusted" in row:
        parts.append(f"p {row['p_value']:.3g}, by Holm {row['p_adjusted']:.3g}")
    return ", ".join(parts)
