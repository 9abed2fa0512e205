"""A record read onward: what it says so far is folded once, and of what is added only the new lines. A snapshot spares
a new process the lines before it.

Every line's seal is followed as it is read, so that a line which is not what was written, or which this version cannot
read, stops whoever would act on it.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from configs.errors import ExternalError
from infra.files.atomic import write_text
from infra.files.sealed_log import Chain
from serve.record.event import Event
from serve.record.fold import apply
from serve.record.state import State

SNAPSHOT_BYTES = 1 << 20  # as much is read again at most: a thousand lines or so


@dataclass
class Reader:
    """One record as far as this process has read it. `chain` knows the last seal, `offset` the byte after its line.

    `unreadable`: the last line, where it ends as a whole one does and is none. With another after it, whose seal covers
    it, it was torn by a kill, and never acted on.
    """

    path: Path
    state: State = field(default_factory=State)
    chain: Chain = field(default_factory=Chain)
    offset: int = 0
    lines: int = 0
    inode: int | None = None
    unreadable: int | None = None
    snapshot_at: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)

    def now(self) -> State:
        """Raises ExternalError at a line that does not follow, or that this version does not know."""
        with self.lock:
            found = stat_of(self.path)
            if found is None or found.st_ino != self.inode or found.st_size < self.offset:
                self.begin(found.st_ino if found else None)
            if found and found.st_size > self.offset:
                self.read_on()
            if self.unreadable:
                raise damaged(self.path, self.unreadable, "cannot be read: it is whole and no JSON")
            return self.state

    def begin(self, inode: int | None) -> None:
        """From the snapshot, if it is this record's and this version's; else from the first line."""
        self.state, self.chain, self.offset, self.lines, self.inode = State(), Chain(), 0, 0, inode
        self.unreadable = None
        found = read_snapshot(self.path) if inode else None
        if found:
            self.state, self.chain, self.offset, self.lines = found
        self.snapshot_at = self.offset

    def read_on(self) -> None:
        with self.path.open("rb") as stream:
            stream.seek(self.offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    break  # not whole yet, or torn by a kill: the next line's seal covers it then
                event, chain = read_line(self.path, self.lines + 1, line, self.chain)
                self.chain, self.offset, self.lines = chain, self.offset + len(line), self.lines + 1
                self.unreadable = None if event else self.lines
                if event:
                    self.state = apply(self.state, event)

    def keep(self) -> None:
        """Writes a snapshot where the last one lies far back. The caller holds the record's lock."""
        with self.lock:
            if self.offset - self.snapshot_at >= SNAPSHOT_BYTES:
                write_snapshot(self)
                self.snapshot_at = self.offset


@cache
def reader_of(path: Path) -> Reader:
    """One for each record of this process. `path` is absolute."""
    return Reader(path)


def stat_of(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def read_line(path: Path, number: int, line: bytes, chain: Chain) -> tuple[Event | None, Chain]:
    """None: the rest of a line that a kill cut short, which was never acted on."""
    from pydantic import ValidationError

    found, chain = chain.follow(line)
    if chain.broken:
        raise damaged(path, number, chain.broken)
    if found is None:
        return None, chain
    try:
        return Event.model_validate(found), chain
    except ValidationError as error:
        what = ".".join(map(str, error.errors()[0]["loc"]))
        raise ExternalError(
            f"{path}: line {number}: this version does not know the {what} {found.get(what)!r}: a newer tunegate wrote "
            "it; nothing was changed, and what serves serves on",
            hint="start the version that wrote it",
        ) from error


def damaged(path: Path, number: int, why: str) -> ExternalError:
    return ExternalError(
        f"{path}: line {number} {why}; nothing was changed, and what serves serves on",
        hint="docs/operator.md, A damaged record",
    )


def read_events(path: Path) -> Iterator[Event]:
    """Every line from the first, checked as `Reader.now` does."""
    if stat_of(path) is None:
        return
    chain = Chain()
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if line.endswith(b"\n"):
                event, chain = read_line(path, number, line, chain)
                if event:
                    yield event


def read_back(path: Path, block: int = 1 << 16) -> Iterator[Event]:
    """From the last line to the first, as far as the caller reads. Unchecked: `Reader.now` has read them before."""
    from pydantic import ValidationError

    if stat_of(path) is None:
        return
    with path.open("rb") as stream:
        position, rest = stream.seek(0, os.SEEK_END), b""
        while position > 0:
            start = max(0, position - block)
            stream.seek(start)
            rest = stream.read(position - start) + rest
            position = start
            first, *whole = rest.split(b"\n")
            for line in reversed(whole if start else [first, *whole]):
                try:
                    yield Event.model_validate(json.loads(line))
                except (ValueError, ValidationError):
                    continue
            rest = first


@cache
def fold_version() -> str:
    """What folds events, by its own bytes: a snapshot of another fold is not read."""
    files = [
        Path(__file__).with_name(name) for name in ("event.py", "facts.py", "fold.py", "fold_slots.py", "state.py")
    ]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def snapshot_path(path: Path) -> Path:
    return path.with_suffix(".snapshot.json")


def adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(State)


def write_snapshot(reader: Reader) -> None:
    facts = {
        "version": fold_version(),
        "offset": reader.offset,
        "lines": reader.lines,
        "seal": reader.chain.seal,
        "state": adapter().dump_python(reader.state, mode="json"),
    }
    write_text(snapshot_path(reader.path), json.dumps(facts))


def read_snapshot(path: Path) -> tuple[State, Chain, int, int] | None:
    """None where there is none of this fold, or the record's line before it does not bear the seal that it names."""
    try:
        facts = json.loads(snapshot_path(path).read_text(encoding="utf8"))
        offset, seal = int(facts["offset"]), str(facts["seal"])
        end = f'"seal":"{seal}"}}\n'.encode()
        with path.open("rb") as stream:
            stream.seek(offset - len(end))
            matches = stream.read(len(end)) == end
        if not matches or facts["version"] != fold_version():
            return None
        return adapter().validate_python(facts["state"]), Chain(seal), offset, int(facts["lines"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
