"""A file of JSON lines that can only grow: each line bears a seal over itself and the seal before it, so that none can
be edited, removed or moved unseen.

As Certificate Transparency's logs and git's commits do it (Haber and Stornetta, 1991). Whoever may write the file may
also write a whole new one: against that, and against lines cut off at the end, a seal that was noted elsewhere helps,
and nothing else.
"""

from __future__ import annotations

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


def append(path: Path, body: bytes) -> str:
    """Adds a JSON object; its seal. On disk (fsync) before it returns. The caller holds the file's lock."""
    line, seal = sealed(end_of(path), body)
    with path.open("ab") as stream:
        stream.write(line)
        stream.flush()
        os.fsync(stream.fileno())
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


def whole_lines(content: bytes) -> list[dict[str, Any]]:
    """Every line that is a JSON object; one torn by a kill was never acted on."""
    return [found for piece in PIECE.findall(content) if (found := parsed(piece)) is not None]


def parsed(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def check(content: bytes) -> ChainCheck:
    """Follows the seals from the first line to the last."""
    seals: list[str] = []
    between, earlier = b"", 0
    for number, piece in enumerate(PIECE.findall(content), 1):
        found = SEALED.fullmatch(piece.removesuffix(b"\n"))
        if found and seal_of(seals[-1] if seals else "", between, found[1] + b"}") != found[2].decode():
            return ChainCheck(
                tuple(seals),
                earlier,
                f"line {number} does not follow from what stands before it: "
                "something was edited, removed or moved there",
            )
        if found:
            seals.append(found[2].decode())
            between = b""
            continue
        if parsed(piece) is not None:
            if seals:
                return ChainCheck(
                    tuple(seals), earlier, f"line {number} bears no seal: it was edited or written by another program"
                )
            earlier += 1
        between += piece.removesuffix(b"\n") + b"\n"
    return ChainCheck(tuple(seals), earlier, torn=bool(seals and between))
