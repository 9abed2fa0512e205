"""`data.expect` asked of rows: of each, or of what share of them it holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from configs.rows.expect import Expectation
from configs.rows.expression import ROW_NAMES, compiled
from configs.section import nearest
from train.data.findings import EXPECTATION, Findings
from train.rows.fields import kind_of, shorten
from train.rows.shape import asked_of
from train.sources.source import Fault, Row

LONGEST_LIST = 12  # columns that a message names


class Expectations:
    """Called once for each row that can be read; `judge` after the last."""

    def __init__(self, expectations: list[Expectation]) -> None:
        self.expectations = expectations
        self.holds = [make_test(one) for one in expectations]
        self.held, self.rows = [0] * len(expectations), 0
        self.needs_row = any(name in ROW_NAMES for one in expectations for name in one.columns)

    def check(self, raw: Row, row: Row) -> list[tuple[Fault, str]]:
        """What is otherwise than it must be in each row, with its action. `raw`: as the file has it; `row`: as it was
        read."""
        values = raw | (features_of(row) if self.needs_row else {})
        found: list[tuple[Fault, str]] = []
        self.rows += 1
        for place, one in enumerate(self.expectations):
            missing = missing_column(one, raw, values)
            why = None if missing else self.holds[place](values)
            self.held[place] += missing is None and why is None
            if missing:
                found.append((missing, one.action))
            elif why is not None and one.share == 1:
                found.append((Fault(EXPECTATION, why, str(one)), one.action))
        return found

    def judge(self, findings: Findings) -> None:
        """Of all rows: those that need hold only for a share."""
        for one, held in zip(self.expectations, self.held, strict=True):
            if one.share < 1 and self.rows and held / self.rows < one.share:
                found = f"{one} in {held} of {self.rows} rows ({held / self.rows:.2%})"
                findings.add("all rows", None, Fault(EXPECTATION, found, f"in {one.share:.2%} at least"), one.action)


def features_of(row: Row) -> dict[str, Any]:
    """ROW_NAMES, as evaluate.slices has them."""
    _, question = asked_of(row)
    labels = row.get("label", row.get("labels"))
    if "tags" in row:
        labels = sorted({tag.split("-", 1)[-1] for tag in row["tags"] if tag != "O"})
    return {"length": len(question.split()), "question": question} | ({} if labels is None else {"label": labels})


def missing_column(expectation: Expectation, raw: Row, values: Mapping[str, Any]) -> Fault | None:
    missing = [name for name in expectation.columns if name not in values]
    if not missing:
        return None
    near, known = nearest(missing[0], map(str, values)), list(map(str, raw))
    listed = ", ".join(known[:LONGEST_LIST]) + " …" * (len(known) > LONGEST_LIST)
    expected = repr(near) if near else f"a column that is there, or one of {', '.join(ROW_NAMES)}"
    return Fault(EXPECTATION, f"no column {', '.join(missing)} among {listed}", expected)


def make_test(expectation: Expectation) -> Callable[[Mapping[str, Any]], str | None]:
    """What is found where it does not hold; None where it does."""
    if expectation.column is None:
        return make_expression_test(str(expectation.where), expectation.columns)
    column = expectation.column
    low = -math.inf if expectation.minimum is None else expectation.minimum
    high = math.inf if expectation.maximum is None else expectation.maximum

    def test(values: Mapping[str, Any]) -> str | None:
        try:
            number = math.nan if isinstance(values[column], bool) else float(values[column])
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        return None if low <= number <= high else f"{column} {kind_of(values[column])}"

    return test


def make_expression_test(expression: str, names: list[str]) -> Callable[[Mapping[str, Any]], str | None]:
    holds = compiled(expression)

    def test(values: Mapping[str, Any]) -> str | None:
        try:
            if holds(values):
                return None
            return ", ".join(f"{name} {shorten(values[name], 30)}" for name in names)
        except (TypeError, ValueError, ArithmeticError, LookupError) as error:
            return f"{error} ({', '.join(f'{name} {kind_of(values[name])}' for name in names)})"

    return test
