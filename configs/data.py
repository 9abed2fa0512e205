"""Data: labelled rows and how they are split."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from configs.section import ExistingPath, Section


class Data(Section):
    """Labelled rows and how they are split."""

    source: Literal["bfcl", "sentiment", "jsonl"] = Field(description="bfcl: function calls; sentiment: labelled sentences; jsonl: files of your own")
    files: list[ExistingPath] = Field(default_factory=list, description="for source jsonl")
    max_rows: int | None = Field(None, ge=10, le=100_000_000)
    max_tokens: int = Field(160, ge=8, le=131_072, description="rows longer than this (prompt and answer) are reported and left out")
    validation_rows: int = Field(40, ge=1)
    test_rows: int = Field(100, ge=1)
    seed: int = Field(17, ge=0, le=2**32 - 1)
    damage: Literal["none", "shuffle_answers"] = Field("none", description="spoil the training rows on purpose, to prove that the gate refuses")

    @model_validator(mode="after")
    def files_match_source(self) -> Data:
        if (self.source == "jsonl") != bool(self.files):
            raise ValueError("files exactly when source is jsonl")
        return self
