"""The error tree. Every error says what was found, what was expected, and the command that helps."""

from __future__ import annotations

from dataclasses import dataclass


class TunegateError(Exception):
    """Base of everything we raise on purpose; `exit_code` follows HOUSE.md."""

    exit_code = 3

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  try: {self.hint}" if self.hint else self.message


class RefusedError(TunegateError):
    """A rule said no (a gate, a check, an integrity test)."""

    exit_code = 1


class InputError(TunegateError):
    """What the user gave is wrong."""

    exit_code = 2


class ExternalError(TunegateError):
    """Something outside failed: a server, a disk, a network."""

    exit_code = 3


class UnreachableError(ExternalError):
    """Nobody answers: nothing is known, neither that something is there nor that it is not, and nothing is decided."""


class InconclusiveError(TunegateError):
    """The evidence is not enough to decide."""

    exit_code = 4


@dataclass(frozen=True)
class Problem:
    """One mistake in one file."""

    file: str
    line: int | None
    key: str
    found: str
    expected: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        key = f" {self.key}:" if self.key else ""
        return f"{place}:{key} found {self.found}, expected {self.expected}"


class ConfigError(InputError):
    """Every problem of a config at once."""

    def __init__(self, problems: list[Problem], *, hint: str | None = None) -> None:
        count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
        super().__init__("\n".join([count, *(f"  {problem}" for problem in problems)]), hint=hint)
        self.problems = problems


def cause_of(error: BaseException) -> str:
    """The innermost exception: MLflow wraps "connection refused" four times."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
