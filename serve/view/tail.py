"""A file that others append to, read onward as `tail -F` does: whole lines only, and from its beginning once it was cut
or replaced."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

POLL_SECONDS = 0.2


@dataclass
class Tail:
    """`rest` is the last line, as far as it is written; `inode` tells a file from the one that took its name."""

    path: Path
    position: int = 0
    inode: int | None = None
    rest: bytes = b""

    def read(self) -> Iterator[str]:
        """Every line that has become whole since the last call, without its end; nothing while there is no file."""
        try:
            stream = self.path.open("rb")
        except FileNotFoundError:
            return
        with stream:
            self.meet(stream.fileno())
            stream.seek(self.position)
            for line in stream:
                self.position += len(line)
                self.rest += line
                if line.endswith(b"\n"):
                    whole, self.rest = self.rest, b""
                    yield whole.decode("utf8", "replace").rstrip("\r\n")

    def meet(self, descriptor: int) -> None:
        facts = os.fstat(descriptor)
        if self.inode not in (None, facts.st_ino) or facts.st_size < self.position:
            self.position, self.rest = 0, b""
        self.inode = facts.st_ino

    def follow(self, ended: Callable[[], bool] = lambda: False) -> Iterator[str]:
        """Lines as they come, until `ended` says so."""
        yield from (line for _, line in follow({"": self}, ended))


def follow(tails: Mapping[str, Tail], ended: Callable[[], bool] = lambda: False) -> Iterator[tuple[str, str]]:
    """Lines of several files as they come, each with its file's name, until `ended` says so: asked before each look, so
    what was written before the end is still read."""
    last = False
    while not last:
        last = ended()
        for name, tail in tails.items():
            yield from ((name, line) for line in tail.read())
        if not last:
            time.sleep(POLL_SECONDS)
