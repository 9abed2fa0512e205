"""Evaluate: what is measured through vLLM, over which slices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from configs.digest import key_of
from configs.rows.data import Data
from configs.rows.expression import ROW_NAMES
from configs.run.behaviour import BehaviourTest, HarnessTask
from configs.run.judge import Judge
from configs.run.own_metric import OwnMetric
from configs.run.slices import Slice
from configs.section import ExistingPath, Section, nearest

LONGEST_NAME = 54  # of a run; with -fold-20 62 characters
Normalization = Literal["none", "whitespace", "squad"]


class Parity(Section):
    """How near the served answers must be to the trainer's own on the golden prompts."""

    golden_prompts: int = Field(8, ge=1, le=256)
    min_agreement: float = Field(
        0.75,
        ge=0,
        le=1,
        description="share of the golden answers given alike (same labels; of a tagger: share of words; "
        "of a GPT: share of tokens, each after the golden ones)",
    )
    max_difference: float = Field(
        0.1,
        ge=0,
        description="largest mean absolute difference of probabilities (BERT), values (regression) "
        "or first-token log-probabilities (GPT)",
    )


class Evaluate(Section):
    """What is measured, through vLLM."""

    max_new_tokens: int = Field(96, ge=1, le=65_536)
    concurrency: int = Field(16, ge=1, le=1024)
    baseline: bool = Field(False, description="also measure the untuned base weights")
    normalize: Normalization = Field(
        "whitespace",
        description="of both texts before exact_match: none; whitespace: one space for each run, none at the ends; "
        "squad: also lower case, without punctuation and articles (arXiv:1606.05250)",
    )
    json_schema: ExistingPath | None = Field(
        None, description="a JSON Schema that answers are held against: valid_schema"
    )
    perplexity: bool = Field(
        False, description="also ask how likely each reference is after its prompt (one more request a row)"
    )
    slices: list[Slice] | None = Field(
        None, description="null: by label where rows have one, and by length in terciles; []: none"
    )
    minimum_slice: int = Field(20, ge=1, description="a slice of fewer rows is not reported")
    behaviour: list[BehaviourTest] = Field(
        default_factory=list, description="robustness, invariance, directional and abstention tests"
    )
    judge: Judge | None = Field(None, description="a model that scores the answers: judge_score")
    harness: list[HarnessTask] = Field(
        default_factory=list, description="tasks of lm-evaluation-harness: metrics harness_TASK_METRIC"
    )
    parity: Parity = Parity()
    cluster: str | None = Field(
        None,
        description="a column of data.keep: what test rows share (a document, a user), of which intervals take "
        "account; null: data.split.by where the split is grouped",
    )
    groups: list[str] = Field(
        default_factory=list,
        description="columns of data.keep whose values are groups of people: `rule: fairness` compares the labels that "
        "they are given",
    )
    folds: int | None = Field(
        None,
        ge=2,
        le=20,
        description="cross-validation, for small sets: so many models are trained, each on the other folds' rows, and "
        "their answers to the rows that they have not seen are judged; the release is the model of all rows. "
        "null: data.test_rows are held out instead",
    )
    metrics: list[OwnMetric] = Field(default_factory=list, description="metrics of your own: custom:NAME in a gate")

    @field_validator("json_schema")
    @classmethod
    def check_schema(cls, path: str | None, info: ValidationInfo) -> str | None:
        if path is not None and info.context:
            check_json_schema(info.context["root"] / path)
        return path

    @property
    def slice_definitions(self) -> list[Slice]:
        """The slices, or those that are made when the config names none."""
        return [Slice(by="label"), Slice(by="length")] if self.slices is None else self.slices

    def incompatibilities(self, task: str, problem: str, kept: list[str]) -> list[str]:
        """What would have to be for these slices and metrics to suit the task and its rows, whose columns are `kept`;
        empty where they do."""
        labelled = task == "token-classification" or (task == "sequence-classification" and problem != "regression")
        known = [name for name in (*ROW_NAMES, *kept) if name != "label" or labelled]
        unknown = sorted({name for one in self.slices or [] for name in one.columns} - set(known))
        broken = [f"evaluate.slices: {expected_name(name, known)} instead of {name!r}" for name in unknown]
        if not labelled and any(one.by == "label" for one in self.slices or []):
            regression = " and problem regression" if problem == "regression" else ""
            broken.append(f"evaluate.slices by length, column or where with task {task}{regression}")
        if self.cluster is not None and self.cluster not in kept:
            broken.append(f"evaluate.cluster: {expected_name(self.cluster, kept)} instead of {self.cluster!r}")
        broken += [
            f"evaluate.groups: {expected_name(one, kept)} instead of {one!r}" for one in self.groups if one not in kept
        ]
        if self.groups and (not labelled or task == "token-classification"):
            broken.append("evaluate.groups only with task sequence-classification, whose rows have labels")
        if self.judge is not None and self.judge.human is not None and self.judge.human not in kept:
            broken.append(
                f"evaluate.judge.human: {expected_name(self.judge.human, kept)} instead of {self.judge.human!r}"
            )
        if len({one.name for one in self.metrics}) != len(self.metrics):
            broken.append("evaluate.metrics with a name of its own for each")
        if task not in ("causal-lm", "grpo") and (self.json_schema is not None or self.perplexity):
            broken.append("evaluate.json_schema and evaluate.perplexity only with task causal-lm or grpo")
        return broken

    def incompatibilities_of_folds(self, data: Data, task: str, name: str, processes: int) -> list[str]:
        """The same, of a run that is evaluated by folds."""
        if self.folds is None:
            return []
        split, most = data.split, data.max_rows
        rules = {
            f"data.split.method random, stratified or grouped with evaluate.folds, not {split.method}: "
            "every row is held out once": split.method not in ("given", "temporal"),
            f"no evaluate.folds with task grpo, which would be trained {self.folds + 1} times": task != "grpo",
            "one launch process with evaluate.folds, whose models train one after the other in this one": processes
            == 1,
            "no evaluate.behaviour with evaluate.folds: it changes test rows, and each fold's model has its own": (
                not self.behaviour
            ),
            f"evaluate.cluster {split.by}, which is data.split.by, with evaluate.folds": split.method != "grouped"
            or self.cluster in (None, split.by),
            f"a name of at most {LONGEST_NAME} characters with evaluate.folds": len(name) <= LONGEST_NAME,
            "a data.max_rows with evaluate.folds that leaves train rows beside data.validation_rows": most is None
            or rows_beside(most, self.folds) > data.validation_rows,
        }
        return [expected for expected, holds in rules.items() if not holds]

    def key_of_folds(self) -> list[str]:
        """What decides, beside `data:`, which rows each fold holds out; nothing where there are none."""
        return [key_of("folds", self.folds, self.cluster)] if self.folds else []


def rows_beside(rows: int, folds: int) -> int:
    """Those that the largest of so many folds leaves, to train and validate on."""
    return rows - -(-rows // folds)


def expected_name(name: str, known: list[str]) -> str:
    """The right name in quotes where one is near, else all of them and how to add one."""
    near = nearest(name, known)
    return repr(near) if near else f"{', '.join(known)}, or a column that data.keep names,"


def check_json_schema(path: Path) -> None:
    """Raises ValueError unless it is a JSON Schema whose references stay within the file: nothing is fetched."""
    from jsonschema import SchemaError
    from jsonschema.validators import validator_for
    from referencing import Registry, Resource
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    try:
        schema = json.loads(path.read_text(encoding="utf8"))
        validator_for(schema).check_schema(schema)
    except (OSError, ValueError, TypeError, AttributeError, SchemaError) as error:
        raise ValueError(f"a file that holds a JSON Schema: {str(error).splitlines()[0][:120]}") from None
    if not isinstance(schema, dict):
        raise ValueError("a JSON Schema that is an object")
    resource = Resource.from_contents(schema, default_specification=DRAFT202012)
    for reference in references_in(schema):
        try:
            Registry().resolver_with_root(resource).lookup(reference)
        except Unresolvable:
            raise ValueError(
                f"a JSON Schema whose every $ref lies in the file (nothing is fetched), unlike {reference!r}"
            ) from None


def references_in(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [found for one in schema for found in references_in(one)]
    if not isinstance(schema, dict):
        return []
    own = [value for key, value in schema.items() if key in ("$ref", "$dynamicRef") and isinstance(value, str)]
    return own + [found for one in schema.values() for found in references_in(one)]
