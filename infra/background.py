"""Something slow outside, done beside the agent: nothing far away that hangs may keep it from watching over
what serves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from configs.errors import ExternalError, RefusedError, TunegateError

Result = TypeVar("Result")
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 300.0


@dataclass
class BackgroundTask(Generic[Result]):
    """One at a time, in a thread that dies with the process. Between two lie `every_seconds`; doubled with each failure
    in a row, up to `longest_seconds`."""

    every_seconds: float
    longest_seconds: float = LONGEST_WAIT_SECONDS
    due: float = 0.0
    failures: int = 0
    error: TunegateError | None = None
    found: Result | None = None
    thread: threading.Thread | None = None
    triggered: bool = False

    def begin(self, do: Callable[[], Result]) -> bool:
        """Starts it, where none is under way, no result waits to be taken, and the time has come."""
        if self.is_under_way or self.found is not None or time.monotonic() < self.due:
            return False
        self.thread = threading.Thread(target=self.run, args=(do,), daemon=True)
        self.thread.start()
        return True

    @property
    def is_under_way(self) -> bool:
        return self.thread is not None and self.thread.is_alive()

    def trigger(self) -> None:
        """The next one is due now; where one is under way, as soon as that has ended, for it may have looked too
        early."""
        self.triggered, self.due = True, 0.0

    def run(self, do: Callable[[], Result]) -> None:
        self.triggered = False
        try:
            found = do()
        except Exception as error:  # a thread that dies of what nobody foresaw would be silence
            self.error = (
                error if isinstance(error, TunegateError) else ExternalError(f"{type(error).__name__}: {error}")
            )
            # A refusal is an answer: what was refused may be put right at any time.
            self.failures = 0 if isinstance(error, RefusedError) else self.failures + 1
        else:
            self.found, self.error, self.failures = found, None, 0
        doubled = (
            min(self.longest_seconds, max(FIRST_WAIT_SECONDS, self.every_seconds) * 2**self.failures)
            if self.failures
            else 0.0
        )
        self.due = time.monotonic() + (0.0 if self.triggered else max(self.every_seconds, doubled))

    def result(self) -> Result | None:
        """What it brought, once. Raises what the last one failed with, until one succeeds."""
        if self.error is not None:
            raise self.error
        found, self.found = self.found, None
        return found

    def wait(self, seconds: float | None) -> None:
        if self.thread:
            self.thread.join(seconds)
