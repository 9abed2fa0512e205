"""Data: where labelled rows come from, what may be wrong with them, and how they are split."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from configs.rows.expect import Expectation
from configs.rows.files import Location, suffix_format
from configs.rows.lint import Lint
from configs.rows.source import HubSplits, MixPart, RowSource, ends_expected
from configs.rows.split import Split
from configs.rows.tags import TagScheme


class Data(RowSource):
    """Labelled rows, what may be wrong with them, and how they are split."""

    source: Literal["bfcl", "bfcl_preferences", "sentiment", "ner_finance", "files", "hub", "mix"] = Field(
        description="bfcl: function calls; bfcl_preferences: pairs made of them; sentiment: labelled sentences; "
        "ner_finance: tagged sentences; files: files of your own; hub: a data set of the Hugging Face hub; "
        "mix: several of the last two"
    )
    mix: list[MixPart] = Field(default_factory=list, description="for source mix: each with its own shape and weight")
    validation_files: list[Location] = Field(default_factory=list, description="for split.method given")
    test_files: list[Location] = Field(default_factory=list, description="for split.method given")
    keep: list[str] = Field(
        default_factory=list, description="columns of yours that stay with the rows, for evaluate.slices"
    )
    labels: list[str] = Field(
        default_factory=list,
        description="the labels or tags that may be; where the rows hold numbers, their names in the order of the "
        "numbers, from 0; empty: whatever the rows say",
    )
    tags: TagScheme = Field(
        "auto",
        description="the scheme of the rows' tags, which are kept as IOB2; auto: told by the first rows; bare: names "
        "alone (ORG); words: no entities but a tag for each word by itself, such as its part of speech",
    )
    lint: Lint = Lint()
    expect: list[Expectation] = Field(
        default_factory=list, description="what rows must be like beside that; each breach is a finding: expectation"
    )
    split: Split = Split()
    max_rows: int | None = Field(None, ge=10, le=100_000_000)
    train_on: Literal["all", "last"] = Field(
        "all", description="of a conversation: the loss is on every assistant turn, or on the last one alone"
    )
    long: Literal["refuse", "chunk", "truncate_left"] = Field(
        "refuse",
        description="a row of more than max_tokens: refuse is a fault (lint.too_long); chunk cuts plain texts to "
        "pieces; truncate_left takes away the oldest turns, or the beginning of the prompt or text",
    )
    max_tokens: int = Field(160, ge=8, le=131_072, description="the longest row (prompt and answer)")
    validation_rows: int = Field(40, ge=1, description="with split.method given: whatever the files hold")
    test_rows: int = Field(
        100, ge=1, description="with split.method given: whatever the files hold; with evaluate.folds: not drawn"
    )
    seed: int = Field(17, ge=0, le=2**32 - 1)
    corrupt: Literal["none", "shuffle_answers"] = Field(
        "none", description="corrupt the training rows on purpose, to prove that the gate refuses"
    )

    @model_validator(mode="after")
    def keys_fit_source(self) -> Data:
        given, own = self.split.method == "given", self.source in ("files", "hub", "mix")
        rules = self.source_rules(self.source) | {
            "validation_files and test_files exactly when split.method is given and source files": [
                bool(self.validation_files),
                bool(self.test_files),
            ]
            == [given and self.source == "files"] * 2,
            "split.method given only with source files or hub": not given or self.source in ("files", "hub"),
            "hub_split {train: …, validation: …, test: …} exactly when split.method is given": self.source != "hub"
            or isinstance(self.hub_split, HubSplits) == given,
            "keep and split.by only with source files, hub or mix": own or not (self.keep or self.split.by),
            "two parts or more in mix exactly when source is mix": len(self.mix) > 1
            if self.source == "mix"
            else not self.mix,
            ends_expected(): self.file_format is not None
            or all(map(suffix_format, (*self.files, *self.validation_files, *self.test_files))),
        }
        rules |= mix_rules(self.mix)
        broken = [expected for expected, holds in rules.items() if not holds]
        if broken:
            raise ValueError("; ".join(broken))
        return self

    def incompatibilities(self, task: str, problem: str) -> list[str]:
        """What would have to be for these rows to suit the task; empty where they do."""
        parts: list[RowSource] = [self, *self.mix]
        templates = [part.template for part in parts if part.template]
        writes = task not in ("sequence-classification", "token-classification")
        labelled = task == "sequence-classification" and problem != "regression"
        rules = {
            "data.template and data.format only with a task that writes text or judges it": writes
            or not any(part.template or part.format for part in parts),
            "data.template.rejected exactly with task dpo or reward": all(
                (task in ("dpo", "reward")) == (template.rejected is not None) for template in templates
            ),
            "data.template.chat true with task dpo or reward": task not in ("dpo", "reward")
            or all(template.chat for template in templates),
            "data.split.method stratified only with labels to share out": self.split.method != "stratified" or labelled,
            "data.tags only with task token-classification": self.tags == "auto" or task == "token-classification",
            "data.labels only with labels or tags": not self.labels or labelled or task == "token-classification",
            "data.train_on last only with task causal-lm: the others look at the last answer": self.train_on == "all"
            or task == "causal-lm",
            "data.long chunk only with task causal-lm, whose rows may be plain texts": self.long != "chunk"
            or task == "causal-lm",
        }
        return [expected for expected, holds in rules.items() if not holds]

    @property
    def kept(self) -> list[str]:
        """Columns that stay with the rows: also the one that groups them, which evaluation clusters by."""
        grouped = [self.split.by] if self.split.method == "grouped" and self.split.by else []
        return [*dict.fromkeys([*self.keep, *grouped])]

    @property
    def row_files(self) -> list[str]:
        """Every path, pattern and URL of rows that the YAML names."""
        return [
            *self.files,
            *self.validation_files,
            *self.test_files,
            *(location for part in self.mix for location in part.files),
        ]


def mix_rules(mix: list[MixPart]) -> dict[str, bool]:
    names = [part.name for part in mix]
    weighed = sum(part.weight is not None for part in mix)
    rules = {
        "names in mix that differ": len(set(names)) == len(names),
        "a weight in each part of mix, or in none": weighed in (0, len(mix)),
    }
    for part in mix:
        found = part.source_rules(part.source) | {"hub_split the name of one split": isinstance(part.hub_split, str)}
        rules |= {f"mix.{part.name}: {expected}": holds for expected, holds in found.items()}
    return rules
