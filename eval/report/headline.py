"""The verdict in one sentence: the figure that decided it, in words and numbers. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from configs.release import short
from configs.run.metrics import METRICS
from configs.verdict import Outcome, RuleResult, Verdict
from eval.rules.result import finite

OUTCOMES: tuple[Outcome, ...] = ("fail", "inconclusive", "pass")
COMPARING = ("non_inferior_to", "superior_to", "slice_minimum")
# What the share of rows is a share of: `{}` is "3 points fewer", "as many" or "83% of".
PHRASES = {
    "accuracy": "labels {} rows right",
    "subset_accuracy": "labels {} rows wholly right",
    "exact_match": "answers {} rows right",
    "name_match": "calls the right function in {} rows",
    "valid_json": "answers {} rows in JSON",
    "valid_schema": "answers {} rows by the schema",
    "sentence_accuracy": "tags {} sentences wholly right",
    "preference_accuracy": "prefers the chosen answer in {} pairs",
}


class Figure(NamedTuple):
    """What a rule decided by: a value or, paired with a reference, a difference; `place`: the slice that it is of."""

    value: float
    low: float | None
    high: float | None
    is_difference: bool
    place: str = ""


def is_difference(evidence: Any) -> bool:
    """Parity's `difference` is a mean distance of probabilities, and no difference from a reference."""
    return "difference" in evidence and evidence.get("kind") != "parity"


def figure_of(one: RuleResult) -> Figure | None:
    """None where nothing finite was measured. Of a rule on slices: the slice that it decided by."""
    facts: Any = one.evidence
    found, place = facts, ""
    rows = [row for row in facts.get("slices") or [] if isinstance(row, dict)]
    if rows and finite(facts.get("difference")) is None and finite(facts.get("value")) is None:
        ends = ("low", "high", "n")
        found = next((row for row in rows if all(row.get(end) == facts.get(end) for end in ends)), rows[0])
    if rows:
        place = str(found.get("name") or rows[0].get("name") or "")
    differs = is_difference(found)
    value = finite(found.get("difference" if differs else "value"))
    if value is None:
        return None
    return Figure(value, finite(found.get("low")), finite(found.get("high")), differs, place)


def clearance(one: RuleResult) -> float | None:
    """How far the figure lies on the allowed side of its bound, in half widths of its interval; None without an
    interval."""
    found, bound = figure_of(one), finite(one.evidence.get("bound"))
    if found is None or bound is None or found.low is None or found.high is None:
        return None
    distance = found.value - bound if one.evidence.get("direction") != "at most" else bound - found.value
    return distance / max((found.high - found.low) / 2, 1e-9)


def is_against_champion(one: RuleResult) -> bool:
    return one.evidence.get("reference") == "champion" and figure_of(one) is not None


def decisive(verdict: Verdict) -> RuleResult | None:
    """The rule that a reviewer should look at. Of what failed, what falls short of the champion comes first, then what
    lies furthest beyond its bound; of what is open the same, then what is nearest to it; of what passed what is
    nearest to it."""
    found = [one for one in verdict.results if one.outcome == verdict.outcome]

    def order(one: RuleResult) -> tuple[bool, bool, float]:
        far = clearance(one)
        least = 0.0 if far is None else abs(far) if verdict.outcome == "inconclusive" else far
        return verdict.outcome != "pass" and not is_against_champion(one), far is None, least

    return min(found, key=order, default=None)


def by_severity(results: Iterable[RuleResult]) -> list[RuleResult]:
    """What failed first, then what is open; the gate file's order within."""
    return sorted(results, key=lambda one: OUTCOMES.index(one.outcome))


def headline(verdict: Verdict) -> str:
    """One sentence, the same on the page, in the merge request and on the terminal."""
    one = decisive(verdict)
    if one is None:
        return "Inconclusive: there was no rule to judge by."
    told = {"pass": passed, "fail": failed, "inconclusive": left_open}[verdict.outcome](one, verdict)
    return f"{verdict.outcome.capitalize()}{alone(verdict)}: {told}."


def alone(verdict: Verdict) -> str:
    """A pass that no champion stood against is another kind of pass."""
    if verdict.outcome != "pass" or verdict.champion is not None:
        return ""
    environment = verdict.binding.environment if verdict.binding else None
    never = f" ({environment} has never served anything)" if environment else ""
    return f", without a champion to compare with{never}"


def judged_against(verdict: Verdict) -> str:
    """Where it was judged for, where no champion stood against it."""
    if verdict.champion is not None or verdict.binding is None:
        return "" if verdict.champion else "no champion"
    where = verdict.binding.environment
    return f"no champion, for {where} has never served anything" if where else "no environment was named"


def looks(verdict: Verdict) -> str:
    """How often these test rows were judged at, and what that costs. A verdict without a binding is of tunegate 0.2 or
    before, which counted but let no look pay."""
    number, binding = verdict.holdout_uses, verdict.binding
    if not number:
        return ""
    if binding is None:
        luck = ": the more uses, the likelier that a pass is luck" if number > 1 else ""
        return f"release number {number} to be judged at these test rows{luck}"
    paid = ", judged at a higher confidence than those before it" if number > 1 else ""
    alone_here = "; counted on this machine alone" if binding.look is None else ""
    return f"look {number} at these test rows{paid}{alone_here}"


def passed(one: RuleResult, verdict: Verdict) -> str:
    found = figure_of(one)
    if found is None or one.evidence.get("kind") not in COMPARING or not found.is_difference:
        return f"{measured(one, verdict)}{allowed(one)}" if found else f"all of {count(verdict.results)} hold"
    claim = "better than" if one.evidence.get("kind") == "superior_to" else "no worse than"
    return f"shown to be {claim} {named(one)}: {measured(one, verdict, against=False)}"


def failed(one: RuleResult, verdict: Verdict) -> str:
    found = figure_of(one)
    if found is None or (one.evidence.get("kind") == "superior_to" and found.value >= 0):
        return sentence(one)
    return measured(one, verdict) + ("" if found.is_difference else allowed(one))


def left_open(one: RuleResult, verdict: Verdict) -> str:
    found = figure_of(one)
    if found is None:
        return sentence(one)
    if found.is_difference:
        claim = "better than" if one.evidence.get("kind") == "superior_to" else "no worse than"
        head = f"not shown to be {claim} {named(one)} ({measured(one, verdict, against=False)})"
    else:
        head = f"{measured(one, verdict)}, not shown to be {limit(one)}"
    return f"{head}: {what_would_decide(one)}"


def what_would_decide(one: RuleResult) -> str:
    more, found = finite(one.evidence.get("more_examples")), figure_of(one)
    if found is None or found.low is None:
        return f"an interval needs {more:,.0f} more test rows" if more else "no interval can be made of it"
    if more is None:
        return "no number of test rows would decide, it is too near its bound"
    return f"about {more:,.0f} more test rows{' of that slice' if found.place else ''} would decide"


def others(verdict: Verdict) -> str:
    """What stands beside the headline: the other rules that failed or are open."""
    one, told = decisive(verdict), []
    for outcome, words in (("fail", "failed"), ("inconclusive", "not shown")):
        rest = [other.rule for other in verdict.results if other.outcome == outcome and other is not one]
        if rest:
            told.append(f"also {words}: {'; '.join(rest[:3])}{f'; {len(rest) - 3} more' if len(rest) > 3 else ''}")
    held = sum(other.outcome == "pass" for other in verdict.results)
    told.append(f"{held} of {count(verdict.results)} {'holds' if held == 1 else 'hold'}")
    return ". ".join(f"{part[0].upper()}{part[1:]}" for part in told)


def measured(one: RuleResult, verdict: Verdict, against: bool = True) -> str:
    """What the release does, as "answers 36 points fewer calls right than the champion" or "labels 83% of rows
    right"."""
    found, metric = figure_of(one), str(one.evidence.get("metric") or "")
    if found is None:
        return ""
    place = f"in {found.place}, " if found.place else ""
    point = " (point figure)" if one.evidence.get("point") else ""
    phrase = phrase_of(metric, verdict)
    if one.evidence.get("kind") == "parity":
        return f"answers {share(found.value)} of the golden prompts as the trained model did"
    if not found.is_difference:
        told = (
            phrase.format(f"{share(found.value)} of")
            if phrase
            else f"{metric or 'the figure'} is {number(found.value)}"
        )
        return f"{place}{told}{point}"
    whom = f" as {named(one)}" if against and not found.value else f" than {named(one)}" if against else ""
    if phrase:
        more = "more" if found.value > 0 else "fewer"
        told = phrase.format(f"{points(found.value)} {more}" if found.value else "as many")
    else:
        known = METRICS.get(metric.partition(":")[0])
        by = points(found.value) if known and known.value_range == (0.0, 1.0) else number(abs(found.value))
        told = f"{metric} is " + (f"{by} {'higher' if found.value > 0 else 'lower'}" if found.value else "as high")
    return f"{place}{told}{whom}{point}"


def phrase_of(metric: str, verdict: Verdict) -> str | None:
    """Where function names were measured, the rows are calls."""
    phrase = PHRASES.get(metric)
    return (
        phrase.replace("rows", "calls")
        if phrase and metric == "exact_match" and "name_match" in verdict.changes
        else phrase
    )


def named(one: RuleResult) -> str:
    reference = str(one.evidence.get("reference") or "its reference")
    return f"the {reference}" if reference in ("champion", "base", "parent") else short(reference)


def allowed(one: RuleResult) -> str:
    return f", {limit(one)} is asked for" if limit(one) else ""


def limit(one: RuleResult) -> str:
    """`at least 85%`; empty where the rule has no bound."""
    bound = finite(one.evidence.get("bound"))
    if bound is None:
        return ""
    found = figure_of(one)
    as_share = str(one.evidence.get("metric")) in PHRASES and not (found and found.is_difference)
    return f"{one.evidence.get('direction', 'at least')} {share(bound) if as_share else number(bound)}"


def points(value: float) -> str:
    """Percentage points, without a sign."""
    size = abs(100 * value)
    text = f"{size:.0f}" if size >= 10 else f"{size:.1f}".removesuffix(".0") if size >= 0.05 else f"{size:.2g}"
    return f"{text} point{'' if text == '1' else 's'}"


def share(value: float) -> str:
    """Never 100% or 0% of what is not all or nothing."""
    text = f"{100 * value:.1f}".removesuffix(".0")
    if text == "100" and value < 1:
        text = "99.9"
    return f"{text if text != '0' or not value else f'{100 * value:.2g}'}%"


def number(value: float) -> str:
    return f"{value:.4g}"


def count(results: list[RuleResult]) -> str:
    return f"{len(results)} rule{'' if len(results) == 1 else 's'}"


def sentence(one: RuleResult) -> str:
    """Its own words, without the full stop."""
    return f"{one.rule}: {one.sentence}".rstrip(".")
