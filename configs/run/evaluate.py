"""Evaluate: what is measured through vLLM, over which slices; and METRICS, what each figure is and which way is better."""

from __future__ import annotations

import ast
import json
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, ValidationInfo, field_validator, model_validator

from configs.run.behaviour import BehaviourTest, HarnessTask
from configs.run.judge import Judge
from configs.section import ExistingPath, Section

Normalization = Literal["none", "whitespace", "squad"]
# What an expression may be made of: simpleeval runs more (calls, attributes, comprehensions), a slice needs no more.
PLAIN = (ast.Name, ast.Constant, ast.BoolOp, ast.UnaryOp, ast.BinOp, ast.Compare, ast.IfExp, ast.Subscript, ast.List, ast.Tuple)
SLICE_NAMES = ("length", "label", "question")  # what every row has for `where`; data.keep adds columns


class Metric(NamedTuple):
    """`per_example`: the column of predictions.parquet whose mean it is; None: a figure of the whole set. `unit_interval`: it lies in [0, 1]."""

    higher_is_better: bool
    per_example: str | None
    description: str
    unit_interval: bool = True


METRICS: dict[str, Metric] = {
    "accuracy": Metric(True, "correct", "share of rows given their label"),
    "subset_accuracy": Metric(True, "correct", "share of rows whose labels are all right"),
    "micro_precision": Metric(True, None, "share of the labels said that are right"),
    "micro_recall": Metric(True, None, "share of the gold labels said"),
    "micro_f1": Metric(True, None, "harmonic mean of micro precision and recall"),
    "macro_precision": Metric(True, None, "mean over labels of precision"),
    "macro_recall": Metric(True, None, "mean over labels of recall"),
    "macro_f1": Metric(True, None, "mean over labels of F1"),
    "precision": Metric(True, None, "of one label, as in precision:positive"),
    "recall": Metric(True, None, "of one label, as in recall:positive"),
    "f1": Metric(True, None, "of one label, as in f1:positive"),
    "matthews_correlation": Metric(True, None, "Matthews' correlation of gold and answer, from -1 to 1", False),
    "roc_auc": Metric(True, None, "area under the ROC curve, mean over labels, each against the rest"),
    "pr_auc": Metric(True, None, "average precision, mean over labels, each against the rest"),
    "log_loss": Metric(False, "log_loss", "-ln of the gold label's probability, in nats; of many labels the mean over labels", False),
    "brier": Metric(False, "brier", "squared error of the probabilities (Brier 1950), of two labels its half; of many labels the mean over labels", False),
    "expected_calibration_error": Metric(False, None, "mean distance of confidence and accuracy over 15 bins of equal width (Guo 2017)"),
    "mean_absolute_error": Metric(False, "absolute_error", "mean distance of answer and gold", False),
    "root_mean_squared_error": Metric(False, None, "root of the mean squared distance", False),
    "r_squared": Metric(True, None, "share of the gold values' variance that the answers explain; at most 1", False),
    "spearman": Metric(True, None, "rank correlation, from -1 to 1", False),
    "entity_precision": Metric(True, None, "share of the entities said that are right, whole and in type"),
    "entity_recall": Metric(True, None, "share of the gold entities found"),
    "entity_f1": Metric(True, None, "harmonic mean of entity precision and recall, over all sentences"),
    "sentence_accuracy": Metric(True, "correct", "share of sentences with every entity found and no other"),
    "token_accuracy": Metric(True, "token_accuracy", "mean share of a sentence's tags that are right"),
    "exact_match": Metric(True, "correct", "share of answers that equal the reference: calls by syntax tree, texts after evaluate.normalize"),
    "name_match": Metric(True, "name_match", "share of answers that call the right function"),
    "valid_json": Metric(True, "valid_json", "share of answers that are a JSON object"),
    "valid_schema": Metric(True, "valid_schema", "share of answers that evaluate.json_schema accepts"),
    "field_f1": Metric(True, "field_f1", "F1 of the fields of a JSON object, each path with its value"),
    "token_f1": Metric(True, "token_f1", "F1 of the words shared with the reference (SQuAD)"),
    "rouge_1": Metric(True, "rouge_1", "ROUGE-1 F-measure"),
    "rouge_2": Metric(True, "rouge_2", "ROUGE-2 F-measure"),
    "rouge_l": Metric(True, "rouge_l", "ROUGE-L F-measure"),
    "bleu": Metric(True, None, "BLEU of the corpus by sacrebleu, from 0 to 100", False),
    "chrf": Metric(True, None, "chrF2 of the corpus by sacrebleu, from 0 to 100", False),
    "sentence_bleu": Metric(True, "sentence_bleu", "mean BLEU of the answers by sacrebleu, from 0 to 100", False),
    "sentence_chrf": Metric(True, "sentence_chrf", "mean chrF2 of the answers by sacrebleu, from 0 to 100", False),
    "perplexity": Metric(False, None, "of the text, or of the reference after its prompt, a token", False),
    "preference_accuracy": Metric(True, "preferred", "share of pairs whose chosen answer is the likelier one"),
    "preference_margin": Metric(True, "preference_margin", "mean of ln p(chosen) - ln p(rejected)", False),
    "judge_score": Metric(True, "judge_score", "mean of the judge model's scores", False),
    "judge_missing": Metric(False, "judge_missing", "share of the judged answers that got no score"),
}  # fmt: skip


class Slice(Section):
    """One way to cut the test rows, as in `{by: length, edges: [20, 60]}`, `{column: topic}` or `{name: short, where: "length < 20"}`."""

    by: Literal["label", "length"] | None = Field(None, description="length: words of the question")
    edges: list[int] = Field(default_factory=list, description="for by length: the longest of each slice but the last; empty: terciles of the test rows")
    column: str | None = Field(None, description="a column of data.keep: a slice for each of its values")
    where: str | None = Field(None, description="an expression over length, label, question and the columns of data.keep")
    name: str | None = Field(None, pattern=r"^[^,|`\n]{1,60}$", description="of the slice that `where` makes")

    @model_validator(mode="after")
    def one_way(self) -> Slice:
        if [self.by, self.column, self.where].count(None) != 2:
            raise ValueError("one of by, column and where")
        if (self.name is None) != (self.where is None):
            raise ValueError("name exactly with where")
        if self.edges and (self.by != "length" or sorted({*self.edges}) != self.edges):
            raise ValueError("edges only with by length, each larger than the one before")
        return self

    @field_validator("where")
    @classmethod
    def parses(cls, text: str | None) -> str | None:
        if text is not None:
            names_in(text)
        return text

    @property
    def columns(self) -> list[str]:
        """The names that this slice needs of a row."""
        return [self.column] if self.column is not None else names_in(self.where) if self.where is not None else []


def names_in(expression: str) -> list[str]:
    """The names that an expression reads. Raises ValueError unless it is made of PLAIN nodes only."""
    try:
        nodes = list(ast.walk(ast.parse(expression.strip(), mode="eval").body))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"one expression, as in \"length < 20 and label == 'positive'\" ({type(error).__name__})") from None
    odd = next((type(node).__name__ for node in nodes if isinstance(node, ast.expr) and not isinstance(node, PLAIN)), None)
    if odd:
        raise ValueError(f"an expression of names, numbers, texts, comparisons, in, and, or, not and arithmetic, without {odd}")
    return sorted({node.id for node in nodes if isinstance(node, ast.Name)})


class Parity(Section):
    """How near the served answers must be to the trainer's own on the golden prompts."""

    golden_prompts: int = Field(8, ge=1, le=256)
    min_agreement: float = Field(
        0.75,
        ge=0,
        le=1,
        description="share of the golden answers given alike (same labels; of a tagger: share of words; of a GPT: share of tokens, each after the golden ones)",
    )
    max_difference: float = Field(
        0.1,
        ge=0,
        description="largest mean absolute difference of probabilities (BERT), values (regression) or first-token log-probabilities (GPT)",
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
    json_schema: ExistingPath | None = Field(None, description="a JSON Schema that answers are held against: valid_schema")
    perplexity: bool = Field(False, description="also ask how likely each reference is after its prompt (one more request a row)")
    slices: list[Slice] | None = Field(None, description="null: by label where rows have one, and by length in terciles; []: none")
    minimum_slice: int = Field(20, ge=1, description="a slice of fewer rows is not reported")
    behaviour: list[BehaviourTest] = Field(default_factory=list, description="robustness, invariance, directional and abstention tests")
    judge: Judge | None = Field(None, description="a model that scores the answers: judge_score")
    harness: list[HarnessTask] = Field(default_factory=list, description="tasks of lm-evaluation-harness: metrics harness_TASK_METRIC")
    parity: Parity = Parity()

    @field_validator("json_schema")
    @classmethod
    def a_schema(cls, path: str | None, info: ValidationInfo) -> str | None:
        if path is not None and info.context:
            read_json_schema(info.context["root"] / path)
        return path

    @property
    def cuts(self) -> list[Slice]:
        """The slices, or those that are made when the config names none."""
        return [Slice(by="label"), Slice(by="length")] if self.slices is None else self.slices

    def misfits(self, task: str, problem: str, kept: list[str]) -> list[str]:
        """What would have to be for these slices and metrics to suit the task and its rows, whose columns are `kept`; empty where they do."""
        labelled = task == "token-classification" or (task == "sequence-classification" and problem != "regression")
        known = [name for name in (*SLICE_NAMES, *kept) if name != "label" or labelled]
        unknown = sorted({name for one in self.slices or [] for name in one.columns} - set(known))
        broken = [f"evaluate.slices: {nearest(name, known)} instead of {name!r}" for name in unknown]
        if not labelled and any(one.by == "label" for one in self.slices or []):
            broken.append(f"evaluate.slices by length, column or where with task {task}{' and problem regression' if problem == 'regression' else ''}")
        if task != "causal-lm" and (self.json_schema is not None or self.perplexity):
            broken.append("evaluate.json_schema and evaluate.perplexity only with task causal-lm")
        return broken


def nearest(name: str, known: list[str]) -> str:
    """The right name in quotes where one is near, else all of them and how to add one."""
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    return repr(near[0]) if near else f"{', '.join(known)}, or a column that data.keep names,"


def read_json_schema(path: Path) -> dict[str, Any]:
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
            raise ValueError(f"a JSON Schema whose every $ref lies in the file (nothing is fetched), unlike {reference!r}") from None
    return schema


def references_in(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [found for one in schema for found in references_in(one)]
    if not isinstance(schema, dict):
        return []
    own = [value for key, value in schema.items() if key in ("$ref", "$dynamicRef") and isinstance(value, str)]
    return own + [found for one in schema.values() for found in references_in(one)]
