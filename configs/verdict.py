"""Verdict: pass, fail or inconclusive, with its evidence. `eval` writes it, everyone may read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from configs.section import Section

Outcome = Literal["pass", "fail", "inconclusive"]
EXIT_CODES: dict[Outcome, int] = {"pass": 0, "fail": 1, "inconclusive": 4}


class RuleResult(Section):
    """One rule's answer and the numbers behind it."""

    rule: str
    outcome: Outcome
    sentence: str
    evidence: dict[str, Any] = Field(
        default_factory=dict,
        description="kind, metric, value or difference, low, high, n, p_value, bound, ...: whatever the rule measured",
    )


class Verdict(Section):
    """The conjunction of its rules: any fail fails, else any inconclusive is inconclusive."""

    release: str = Field(description="NAME@sha256:DIGEST that was judged")
    champion: str | None = None
    outcome: Outcome
    results: list[RuleResult]
    dataset: str | None = Field(None, description="fingerprint of the test rows")
    looks: int | None = Field(
        None,
        description="distinct releases judged at these test rows, this one included: each look wears them out a little",
    )
    changes: dict[str, dict[str, float | None]] = Field(
        default_factory=dict, description="metric to its value by release, champion, base, parent"
    )

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf8")

    @classmethod
    def read(cls, path: Path) -> Verdict:
        return cls.model_validate_json(path.read_text(encoding="utf8"))


def conjunction(results: list[RuleResult]) -> Outcome:
    """No rule at all is inconclusive: nothing was proven."""
    outcomes = {result.outcome for result in results}
    if "fail" in outcomes:
        return "fail"
    return "pass" if outcomes == {"pass"} else "inconclusive"
