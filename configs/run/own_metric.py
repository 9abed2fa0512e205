"""`evaluate.metrics:`: a metric of one's own, a Python function of a test row and its answer."""

from __future__ import annotations

from pathlib import PurePosixPath

from pydantic import Field, ValidationInfo, field_validator, model_validator

from configs.section import NAME_PATTERN, Section, must_exist


class OwnMetric(Section):
    """`function(row, answer)` gets the test row, a dict of its columns, and the answer's text; it gives a number within
    `range`, or None where it says nothing of this row. The mean over rows is the figure.

    The module is a file of this checkout, run as code where the release is evaluated and nowhere else: review it as
    code. Its sha256 is part of the evaluation's key; what it imports is not.
    """

    name: str = Field(pattern=NAME_PATTERN, description="a gate names it custom:NAME")
    python: str = Field(
        pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$",
        description="module:function, as in checks.style:politeness of checks/style.py",
    )
    range: tuple[float, float] = Field(description="the least and the most that a row's value can be")
    higher_is_better: bool = True
    binary: bool = Field(False, description="each value is 0 or 1")

    @field_validator("python")
    @classmethod
    def is_there(cls, python: str, info: ValidationInfo) -> str:
        must_exist(path_of(python), info)
        return python

    @model_validator(mode="after")
    def in_order(self) -> OwnMetric:
        if not self.range[0] < self.range[1]:
            raise ValueError("range with its lowest value first")
        if self.binary and self.range != (0, 1):
            raise ValueError("range [0, 1] with binary")
        return self

    @property
    def path(self) -> str:
        """Of its module, inside the checkout."""
        return path_of(self.python)


def path_of(python: str) -> str:
    return str(PurePosixPath(*python.partition(":")[0].split(".")).with_suffix(".py"))
