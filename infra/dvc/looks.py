"""Looks at test rows, counted in the DVC remote, where a fresh clone sees those of all others; this machine keeps its
own in stores/looks, and hands them in when the remote answers again.

    looks/ROWS/rows.json        a sketch of the test rows (eval/metrics/sketch.py), by which another set is known as a
    part looks/ROWS/RELEASE-GATE     one release judged by one gate: which look it was

A look is a file of its own, written before the others are counted: two that are judged at once count each other, and
none is lost.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from infra.dvc.evaluations import remote_folder
from infra.state.places import LOOKS
from infra.state.stores import settle_looks

ROWS = "rows.json"


@dataclass(frozen=True)
class Look:
    """`rows`: fingerprint of the test rows; `sketch`: by which they are known again when some are added; `release`,
    `gate`: digests, `sha256:` and hex."""

    rows: str
    sketch: tuple[str, ...]
    release: str
    gate: str

    @property
    def folder(self) -> str:
        return hex_of(self.rows)

    @property
    def file(self) -> str:
        return f"{hex_of(self.release)}-{hex_of(self.gate)}"


IsSame = Callable[[Look, list[str] | None], bool]  # the sketch of another set; None where it cannot be read


def count_in_remote(look: Look, is_same: IsSame) -> int:
    """Which look this is, those of other machines counted. Raises ExternalError where the remote does not answer."""
    with remote_folder("looks") as (files, place):
        hand_in(files, place)
        return count(files, place, look, is_same)


def count_here(look: Look, is_same: IsSame) -> int:
    """Which look this is of those that were made on this machine."""
    from dvc.fs import LocalFileSystem

    settle_looks()
    return count(LocalFileSystem(), str(LOOKS), look, is_same)


def count(files: Any, place: str, look: Look, is_same: IsSame) -> int:
    """A release judged again by the same gate on the same rows is the look that it was."""
    folder = files.join(place, look.folder)
    mine = files.join(folder, look.file)
    known = read(files, mine)
    if isinstance(known, dict) and isinstance(known.get("look"), int):
        return int(known["look"])
    files.makedirs(folder, exist_ok=True)
    write(files, files.join(folder, ROWS), {"sketch": list(look.sketch)})
    write(files, mine, {})
    same = [
        name
        for name in names(files, place)
        if name == look.folder or is_same(look, sketch_of(files, files.join(place, name, ROWS)))
    ]
    number = sum(len([one for one in names(files, files.join(place, name)) if one != ROWS]) for name in same)
    write(files, mine, {"look": number})
    return number


def hand_in(files: Any, place: str) -> None:
    """Looks of this machine that the remote does not know, without their numbers, for others may have come before."""
    for folder in sorted(path for path in LOOKS.glob("*") if path.is_dir()):
        there = files.join(place, folder.name)
        known = names(files, there) if files.exists(there) else []
        files.makedirs(there, exist_ok=True)
        for path in sorted(folder.iterdir()):
            if path.name in known:
                continue
            if path.name == ROWS:
                files.put_file(str(path), files.join(there, ROWS))
            else:
                write(files, files.join(there, path.name), {})


def names(files: Any, place: str) -> list[str]:
    return sorted(
        {str(found).rstrip("/").replace("\\", "/").rpartition("/")[2] for found in files.ls(place, detail=False)}
    )


def sketch_of(files: Any, path: str) -> list[str] | None:
    found = read(files, path)
    sketch = found.get("sketch") if isinstance(found, dict) else None
    return [str(one) for one in sketch] if isinstance(sketch, list) else None


def read(files: Any, path: str) -> object:
    """None for what is missing, or torn by a kill."""
    try:
        return json.loads(files.cat_file(path)) if files.exists(path) else None
    except ValueError:
        return None


def write(files: Any, path: str, value: object) -> None:
    files.pipe_file(path, json.dumps(value).encode())


def hex_of(digest: str) -> str:
    return digest.rpartition(":")[2]
