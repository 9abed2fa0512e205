"""Verdict: pass, fail or inconclusive, with its evidence. `eval` writes it, everyone may read it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

from pydantic import AliasChoices, ConfigDict, Field, GetPydanticSchema

from configs.digest import key_of
from configs.section import Section

Outcome = Literal["pass", "fail", "inconclusive"]
EXIT_CODES: dict[Outcome, int] = {"pass": 0, "fail": 1, "inconclusive": 4}


class SliceEvidence(TypedDict, total=False):
    """One slice of the test rows. `value`, or `difference` from a reference. The p are of verdicts of tunegate 0.1."""

    name: str
    outcome: str
    n: int
    value: float
    difference: float
    low: float
    high: float
    p_value: float
    p_adjusted: float


class RuleEvidence(TypedDict, total=False):
    """The numbers behind a rule's answer, in the metric's own unit; only what was measured is there."""

    kind: str  # of the rule
    metric: str
    reference: str | None  # whom the release is compared with
    value: float | None  # the release's figure
    reference_value: float
    difference: float  # release minus reference
    low: float  # of the interval of `difference`, else of `value`
    high: float
    confidence: float  # of that interval
    method: str
    n: float | None  # examples
    p_value: float
    gained: int | None  # examples right now and wrong before
    lost: int | None
    bound: float | None
    direction: str  # "at least" or "at most" the bound
    margin: float
    minimum: float | None
    maximum: float | None
    minimum_detectable_effect: float | None  # seen with 80% power
    power: float | None  # chance to pass, were the two alike
    more_examples: int | None  # that would decide
    too_small: list[str]  # slices that were not judged
    point: bool | None  # the figure decided, not its interval: the rule says so
    left_out: int  # examples that one of the two has and the other has not
    slices: list[SliceEvidence]
    agreement: float  # of parity
    prompts: int
    passed: bool


class RuleResult(Section):
    """One rule's answer and the numbers behind it."""

    rule: str
    outcome: Outcome
    sentence: str
    # Read as it stands: another version's evidence may hold other figures.
    evidence: Annotated[RuleEvidence, GetPydanticSchema(lambda _, handler: handler(dict[str, Any]))] = Field(
        default_factory=RuleEvidence,
        description="kind, metric, value or difference, low, high, n, p_value, bound, ...: whatever the rule measured",
    )


NO_CHAMPION = "none"


class Binding(Section):
    """What a verdict was reached about: `deploy` takes it for nothing else."""

    model_config = ConfigDict(strict=True)  # "80" for 80 would be a changed byte that passes

    release: str = Field(description="NAME@sha256:DIGEST")
    outcome: Outcome
    environment: str | None = Field(None, description="the environment that it was judged for; null: none was named")
    champion: str | None = Field(
        None,
        description="what served there, NAME@sha256:DIGEST; none: the environment had never served anything; "
        "null: no environment was named",
    )
    gate: str = Field(description="path of the gate file")
    gate_digest: str = Field(description="sha256 of its rules as canonical JSON, every default filled in")
    rows: str | None = Field(None, description="fingerprint of the test rows")
    conditions: str | None = Field(
        None, description="the evaluation's key but for the release: rows, settings, versions; null: not evaluated"
    )
    versions: dict[str, str] = Field(
        default_factory=dict, description="of what measured: vllm, evaluation, lm_eval, judge"
    )
    n: int | None = Field(None, description="test rows")
    look: int | None = Field(
        None,
        description="how many releases had been judged at these test rows, this one included; "
        "null: the artifact store, which counts them, did not answer",
    )
    digest: str = Field("", description="sha256 of all of the above as canonical JSON")

    def sealed(self) -> Binding:
        """With its digest."""
        return self.model_copy(update={"digest": self.digest_of_contents()})

    def digest_of_contents(self) -> str:
        return f"sha256:{key_of(self.model_dump(mode='json', exclude={'digest'}))}"


class HeldOut(Section):
    """That not the release answered the test rows, for it was trained on all of them."""

    folds: int = Field(description="models, each trained on the rows of the other folds, that answered in its place")
    champion: Literal["held out", "trained", "unknown"] | None = Field(
        None,
        description="whether the champion's answers are such as well, or its own, with rows among them that it was "
        "trained on, or may have been; null: it was not asked",
    )
    champion_trained_on: int | None = Field(None, description="on how many of the test rows; null: nobody knows")

    def sentence(self) -> str:
        told = (
            f"Estimated by {self.folds} folds: each row was answered by a model that had not seen it; "
            "the release itself was trained on all rows."
        )
        seen = {
            "held out": "The champion was estimated likewise.",
            "trained": f"The champion was trained on {self.champion_trained_on} of these rows: "
            "its figures are better than they would be on new ones.",
            "unknown": "The champion may have been trained on these rows, and its figures be better for it.",
        }
        return f"{told} {seen[self.champion]}" if self.champion else told


class Verdict(Section):
    """The conjunction of its rules: any fail fails, else any inconclusive is inconclusive."""

    release: str = Field(description="NAME@sha256:DIGEST that was judged")
    champion: str | None = None
    outcome: Outcome
    results: list[RuleResult]
    dataset: str | None = Field(None, description="fingerprint of the test rows")
    holdout_uses: int | None = Field(
        None,
        # `looks` in verdicts of tunegate 0.1
        validation_alias=AliasChoices("holdout_uses", "looks"),
        description="distinct releases judged at these test rows, this one included: each use wears them out a little",
    )
    held_out: HeldOut | None = Field(None, description="null: the release itself answered rows that it had not seen")
    binding: Binding | None = Field(None, description="null in verdicts of an earlier tunegate: judge anew")
    changes: dict[str, dict[str, float | None]] = Field(
        default_factory=dict, description="metric to its value by release, champion, base, parent, NAME@sha256:DIGEST"
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
