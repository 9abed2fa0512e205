"""`data.expect`: what rows must be like, in words of one's own."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from configs.rows.expression import names_in
from configs.section import Section


class Expectation(Section):
    """As in `{where: "length < 4000"}` or `{column: amount, minimum: 0, action: drop}`."""

    where: str | None = Field(
        None, description="an expression over length (words of the question), label, question and your columns"
    )
    column: str | None = Field(None, description="one of your columns, which holds a number in each row")
    minimum: float | None = Field(None, description="with column")
    maximum: float | None = Field(None, description="with column")
    share: float = Field(1.0, gt=0, le=1, description="of the rows, for which it must hold; 1: each row is judged")
    action: Literal["refuse", "drop", "keep"] = Field(
        "refuse", description="what is done with a row that is otherwise; drop only with share 1"
    )

    @model_validator(mode="after")
    def one_way(self) -> Expectation:
        if (self.where is None) == (self.column is None):
            raise ValueError("one of where and column")
        if (self.column is None) != (self.minimum is None and self.maximum is None):
            raise ValueError("minimum, maximum or both exactly with column")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError("a minimum that is not above the maximum")
        if self.share < 1 and self.action == "drop":
            raise ValueError("action refuse or keep with a share below 1: no single row is at fault")
        return self

    @field_validator("where")
    @classmethod
    def parses(cls, text: str | None) -> str | None:
        if text is not None and not names_in(text):
            raise ValueError("an expression that reads some value of the row, as length < 4000")
        return text

    @property
    def columns(self) -> list[str]:
        """The names that it needs of a row."""
        return [self.column] if self.column is not None else names_in(str(self.where))

    def __str__(self) -> str:
        if self.where is not None:
            return self.where
        low, high = ("" if one is None else f"{one:g}" for one in (self.minimum, self.maximum))
        return f"{low}{' <= ' * bool(low)}{self.column}{' <= ' * bool(high)}{high}"
