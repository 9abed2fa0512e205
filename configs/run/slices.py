"""`evaluate.slices:`: parts of the test rows that are measured by themselves."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from configs.rows.expression import names_in
from configs.section import Section


class Slice(Section):
    """One way to cut the test rows, as in `{by: length, edges: [20, 60]}`, `{column: topic}` or `{name: short, where:
    "length < 20"}`."""

    by: Literal["label", "length"] | None = Field(None, description="length: words of the question")
    edges: list[int] = Field(
        default_factory=list,
        description="for by length: the longest of each slice but the last; empty: terciles of the test rows",
    )
    column: str | None = Field(None, description="a column of data.keep: a slice for each of its values")
    where: str | None = Field(
        None, description="an expression over length, label, question and the columns of data.keep"
    )
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
