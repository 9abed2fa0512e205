"""Expressions in a YAML over the values of one row, as in `"length < 20 and label == 'positive'"`."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

# What an expression may be made of: simpleeval runs more (calls, attributes, comprehensions), no row needs more.
PLAIN = (
    ast.Name,
    ast.Constant,
    ast.BoolOp,
    ast.UnaryOp,
    ast.BinOp,
    ast.Compare,
    ast.IfExp,
    ast.Subscript,
    ast.List,
    ast.Tuple,
)
ROW_NAMES = ("length", "label", "question")  # what every row has: words of its question, its label, its question


def names_in(expression: str) -> list[str]:
    """The names that an expression reads. Raises ValueError unless it is made of PLAIN nodes only."""
    try:
        nodes = list(ast.walk(ast.parse(expression.strip(), mode="eval").body))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(
            f"one expression, as in \"length < 20 and label == 'positive'\" ({type(error).__name__})"
        ) from None
    odd = next(
        (type(node).__name__ for node in nodes if isinstance(node, ast.expr) and not isinstance(node, PLAIN)), None
    )
    if odd:
        raise ValueError(
            f"an expression of names, numbers, texts, comparisons, in, and, or, not and arithmetic, without {odd}"
        )
    return sorted({node.id for node in nodes if isinstance(node, ast.Name)})


def compiled(expression: str) -> Callable[[Mapping[str, Any]], bool]:
    """Whether it holds for the values of a row. By simpleeval, without functions: an expression can reach nothing but
    these values.

    What is returned raises ValueError and its like where the expression fails on them.
    """
    from simpleeval import EvalWithCompoundTypes, InvalidExpression

    evaluator = EvalWithCompoundTypes(functions={})
    tree = evaluator.parse(expression)

    def holds(values: Mapping[str, Any]) -> bool:
        evaluator.names = values
        try:
            return bool(evaluator.eval(expression, previously_parsed=tree))
        except InvalidExpression as error:
            raise ValueError(error) from error

    return holds
