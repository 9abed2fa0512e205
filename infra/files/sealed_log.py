"""A file of JSON lines that can only grow: each line bears a seal over itself and the seal before it, so that none can
be edited, removed or moved unseen.

As Certificate Transparency's logs and git's commits do it (Haber and Stornetta, 1991). Whoever may write the file may
also write a whole new one: against that, and against lines cut off at the end, a seal that was noted elsewhere helps,
and nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SEALED = re.compile(rb'(\{.*),"seal":"([0-9a-f]{64})"\}')
PIECE = re.compile(rb"[^\n]*\n|[^\n]+\Z")
TAIL_BYTES = 1 << 18
NOT_FOLLOWING = "does not follow from what stands before it: something was edited, removed or moved there"
NOT_SEALED = "bears no seal: it was edited or written by another program"


@dataclass(frozen=True)
class ChainCheck:
    """`seals` are those that follow, oldest first; `earlier` counts lines from before there were seals, which the first
    seal covers.

    `broken` names the first line that does not follow; `torn`: after the last sealed line lies the rest of one that a
    kill cut short.
    """

    seals: tuple[str, ...] = ()
    earlier: int = 0
    broken: str | None = None
    torn: bool = False


@dataclass(frozen=True)
class Chain:
    """Where following the seals has got to: the last one, and what lies after its line. `broken`: why the line that
    came next does not follow."""

    seal: str = ""
    between: bytes = b""
    broken: str | None = None

    def follow(self, line: bytes) -> tuple[dict[str, Any] | None, Chain]:
        """The object of one whole line, its end included, and where the chain is then; None for what a kill left of
        one."""
        body = line.removesuffix(b"\n")
        found = SEALED.fullmatch(body)
        if found and seal_of(self.seal, self.between, found[1] + b"}") != found[2].decode():
            return None, Chain(self.seal, self.between, NOT_FOLLOWING)
        if found:
            return parsed(body), Chain(found[2].decode())
        value = parsed(body)
        if value is not None and self.seal:
            return None, Chain(self.seal, self.between, NOT_SEALED)
        return value, Chain(self.seal, self.between + body + b"\n")


def append(path: Path, body: bytes) -> str:
    """Adds a JSON object; its seal. On disk (fsync) before it returns; where the disk says no, the file is as it was
    before. The caller holds the file's lock. Raises OSError."""
    line, seal = sealed(end_of(path), body)
    with path.open("ab", buffering=0) as stream:
        before = stream.seek(0, os.SEEK_END)
        try:
            if stream.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(stream.fileno())
        except OSError:
            os.ftruncate(stream.fileno(), before)  # what is not on disk was not written: nobody may read it
            raise
    return seal


def end_of(path: Path) -> bytes:
    """As much of the file as holds its last seal: all of it, where it has none. Empty where there is no file."""
    if not path.exists():
        return b""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - TAIL_BYTES))
        found = stream.read()
    return found if len(found) < TAIL_BYTES or last_of(found)[0] else path.read_bytes()


def sealed(content: bytes, body: bytes) -> tuple[bytes, str]:
    """The bytes to add after `content`, the end of a file with its last seal in it, and their seal. Pure."""
    before, between = last_of(content)
    start = b"" if not content or content.endswith(b"\n") else b"\n"
    seal = seal_of(before, between + start if between else b"", body)
    return start + body[:-1] + b',"seal":"' + seal.encode() + b'"}\n', seal


def seal_of(before: str, between: bytes, body: bytes) -> str:
    """`between`: what a kill left of a line that was never whole, its end of line included; so that nothing can hide
    there either."""
    return hashlib.sha256(before.encode() + between + body).hexdigest()


def last_of(content: bytes) -> tuple[str, bytes]:
    """The last seal, and all that lies after its line."""
    between: list[bytes] = []
    for piece in reversed(PIECE.findall(content)):
        found = SEALED.fullmatch(piece.removesuffix(b"\n"))
        if found:
            return found[2].decode(), b"".join(reversed(between))
        between.append(piece)
    return "", content


def first_seal(path: Path) -> str:
    """Of the file's first sealed line; empty where there is none."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as stream:
        return next((found[2].decode() for line in stream if (found := SEALED.fullmatch(line.rstrip(b"\n")))), "")
    return ""


def parsed(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def check(content: bytes) -> ChainCheck:
    """Follows the seals from the first line to the last."""
    seals: list[str] = []
    chain, earlier = Chain(), 0
    for number, piece in enumerate(PIECE.findall(content), 1):
        value, following = chain.follow(piece)
        if following.broken:
            return ChainCheck(tuple(seals), earlier, f"line {number} {following.broken}")
        if following.seal != chain.seal:
            seals.append(following.seal)
        elif value is not None:
            earlier += 1
        chain = following
    return ChainCheck(tuple(seals), earlier, torn=bool(seals and chain.between))
