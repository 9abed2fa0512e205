"""Data: where labelled rows come from, what may be wrong with them, and how they are split."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from configs.rows.expect import Expectation
from configs.rows.files import SUFFIXES, Location, suffix_format
from configs.rows.lint import Lint
from configs.rows.split import Split
from configs.rows.template import Template
from configs.section import Section


class Data(Section):
    """Labelled rows, what may be wrong with them, and how they are split."""

    source: Literal["bfcl", "bfcl_preferences", "sentiment", "ner_finance", "files", "hub"] = Field(
        description="bfcl: function calls; bfcl_preferences: pairs made of them; sentiment: labelled sentences; "
        "ner_finance: tagged sentences; files: files of your own; hub: a data set of the Hugging Face hub"
    )
    files: list[Location] = Field(
        default_factory=list,
        description="for source files: paths, patterns or URLs; with split.method given, the train rows",
    )
    validation_files: list[Location] = Field(default_factory=list, description="for split.method given")
    test_files: list[Location] = Field(default_factory=list, description="for split.method given")
    format: Literal["jsonl", "csv", "parquet", "arrow"] | None = Field(
        None, description="of the files; default: by suffix"
    )
    hub_id: str | None = Field(None, pattern=r"^[\w.-]+(/[\w.-]+)?$", description="for source hub")
    revision: str | None = Field(None, pattern=r"^[0-9a-f]{40}$", description="for source hub: the commit")
    hub_split: str = Field(
        "train", description="for source hub: which of its splits is read; data.split is drawn from it"
    )
    columns: dict[str, str] = Field(default_factory=dict, description="our field: your column, as in text: review_body")
    keep: list[str] = Field(
        default_factory=list, description="columns of yours that stay with the rows, for evaluate.slices"
    )
    template: Template | None = Field(
        None, description="makes the conversation (or prompt and completion) of a row's columns"
    )
    labels: list[str] = Field(
        default_factory=list, description="the labels or tags that may be; empty: whatever the rows say"
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
    test_rows: int = Field(100, ge=1, description="with split.method given: whatever the files hold")
    seed: int = Field(17, ge=0, le=2**32 - 1)
    corrupt: Literal["none", "shuffle_answers"] = Field(
        "none", description="corrupt the training rows on purpose, to prove that the gate refuses"
    )

    @model_validator(mode="after")
    def keys_fit_source(self) -> Data:
        given, own = self.split.method == "given", self.source in ("files", "hub")
        rules = {
            "files exactly when source is files": (self.source == "files") == bool(self.files),
            "hub_id and revision exactly when source is hub": [self.hub_id is not None, self.revision is not None]
            == [self.source == "hub"] * 2,
            "validation_files and test_files exactly when split.method is given": [
                bool(self.validation_files),
                bool(self.test_files),
            ]
            == [given] * 2,
            "split.method given only with source files": not given or self.source == "files",
            "columns, keep, template, format and split.by only with source files or hub": own
            or not (self.columns or self.keep or self.template or self.format or self.split.by),
            "files that end in " + ", ".join(SUFFIXES) + " (also with .gz, .bz2 or .xz), or format": self.format
            is not None
            or all(suffix_format(location) for location in (*self.files, *self.validation_files, *self.test_files)),
        }
        broken = [expected for expected, holds in rules.items() if not holds]
        if broken:
            raise ValueError("; ".join(broken))
        return self

    def incompatibilities(self, task: str, problem: str) -> list[str]:
        """What would have to be for these rows to suit the task; empty where they do."""
        labelled = task == "sequence-classification" and problem != "regression"
        rules = {
            "data.template only with task causal-lm or dpo": self.template is None or task in ("causal-lm", "dpo"),
            "data.template.rejected exactly with task dpo": self.template is None
            or (task == "dpo") == (self.template.rejected is not None),
            "data.template.chat true with task dpo": self.template is None or task != "dpo" or self.template.chat,
            "data.split.method stratified only with labels to share out": self.split.method != "stratified" or labelled,
            "data.labels only with labels or tags": not self.labels or labelled or task == "token-classification",
        }
        return [expected for expected, holds in rules.items() if not holds]
