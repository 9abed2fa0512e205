"""JSON values one after the other from a text that is read as it is needed: files of any size, a value at a time."""

from __future__ import annotations

import io
import json
import re
from typing import Any

from train.sources.source import Fault

CHUNK = 1 << 20
MOST_CHARACTERS = 1 << 26  # of one value that does not end
SPACE = re.compile(r"[ \t\r\n]*")
# What may still become JSON when more of the file is read: these are said of a text that was cut, wherever.
CUT = ("Unterminated string", "Invalid \\uXXXX escape", "Invalid \\escape")


class Scanner:
    """JSON values one after the other from a text that is read as it is needed."""

    def __init__(self, text: io.TextIOWrapper, start: str) -> None:
        self.text, self.buffer, self.at, self.ended = text, start, 0, False
        self.lines = 0  # before the buffer
        self.size = 0  # of the last value
        self.decoder = json.JSONDecoder()

    def more(self) -> bool:
        """Reads on; the more of one value there is, the more at a time."""
        found = "" if self.ended else self.text.read(max(CHUNK, len(self.buffer) - self.at))
        self.ended = not found
        self.lines += self.buffer.count("\n", 0, self.at)
        self.buffer, self.at = self.buffer[self.at :] + found, 0
        return not self.ended

    def peek(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            self.at = SPACE.match(self.buffer, self.at).end()  # type: ignore[union-attr]  # it matches anything
            if self.at < len(self.buffer) or not self.more():
                return self.buffer[self.at : self.at + 1]

    def drain(self) -> None:
        """Nothing of what follows is to be read."""
        self.buffer, self.at, self.ended = "", 0, True

    def take(self, mark: str) -> bool:
        """Whether `mark` stood there; it is then behind us."""
        found = self.peek() == mark
        self.at += found
        return found

    def value(self) -> Any:
        """Raises ValueError, with the line, for what is no JSON."""
        self.peek()
        while True:
            try:
                found, end = self.decoder.raw_decode(self.buffer, self.at)
            except RecursionError as error:
                raise ValueError(f"line {self.line()}: {error}") from None
            except json.JSONDecodeError as error:
                line = self.line(error.pos)
                is_cut = error.msg.startswith(CUT) or error.pos >= len(self.buffer) - 16
                if is_cut and len(self.buffer) - self.at < MOST_CHARACTERS and self.more():
                    continue
                raise ValueError(f"line {line}: {error.msg}") from None
            self.size = size = end - self.at
            if end < len(self.buffer) or not self.more():  # at the buffer's end a number may go on
                self.at += size
                return found

    def raw(self) -> str:
        """The last value as it is written, where nothing was taken since."""
        return self.buffer[self.at - self.size : self.at]

    def at_rows(self) -> bool:
        """Whether a list of objects begins here."""
        while self.peek() == "[":
            following = SPACE.match(self.buffer, self.at + 1).end()  # type: ignore[union-attr]
            if following < len(self.buffer) or not self.more():
                return self.buffer[following : following + 1] == "{"
        return False

    def line(self, position: int | None = None) -> int:
        return 1 + self.lines + self.buffer.count("\n", 0, self.at if position is None else position)

    def fault(self, found: str, expected: str) -> Fault:
        return Fault("unreadable", f"{found} (line {self.line()})", expected)
