"""`data.split`: which rows train and which are held out."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from configs.section import Section


class Split(Section):
    """Which rows train and which are held out."""

    method: Literal["random", "stratified", "grouped", "temporal", "given"] = Field(
        "random",
        description="stratified: equal shares of labels; grouped: a group in one split only; "
        "temporal: the newest rows are held out; given: by files",
    )
    by: str | None = Field(None, description="the column that groups the rows, or says when they came to be")

    @model_validator(mode="after")
    def by_fits_method(self) -> Split:
        if (self.method in ("grouped", "temporal")) != (self.by is not None):
            raise ValueError("by exactly when method is grouped or temporal")
        return self
