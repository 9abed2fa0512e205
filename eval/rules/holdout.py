"""How many releases were judged at the same test rows: each look at a holdout wears it out a little (Dwork 2015, the
reusable holdout), so looks are counted where all see them, refusals too, and each is judged at a higher confidence than
the one before (eval/statistics/looks.py).

Test rows that share more than a tenth with others are the same set: whoever adds rows and looks again has looked twice.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from configs.errors import ExternalError
from infra.dvc.looks import HERE, Look, count_here, count_in_remote, hex_of
from infra.files.atomic import read_json, write_text
from infra.terminal import waiting

SKETCH = "rows.json"  # of an evaluation
SKETCHED_ROWS = 512
SHARED = 0.1
EARLIER = Path("build/looks.jsonl")  # what tunegate 0.2 and before kept


def sketch_of(questions: Iterable[str]) -> list[str]:
    """The smallest SKETCHED_ROWS hashes of the questions, case and spaces apart: the same for the same rows, whatever
    their ids and answers (bottom-k: Cohen and Kaplan 2007, doi:10.1145/1281100.1281133)."""
    hashes = {hashlib.sha256(" ".join(one.split()).casefold().encode()).hexdigest()[:16] for one in questions}
    return sorted(hashes)[:SKETCHED_ROWS]


def share(one: Iterable[str], other: Iterable[str]) -> float:
    """Of the smaller of two sets, how much is in the other: estimated below the hash down to which both are known."""
    first, second = set(one), set(other)
    if not first or not second:
        return 0.0
    known = min((max(found) for found in (first, second) if len(found) == SKETCHED_ROWS), default=max(*first, *second))
    first, second = {hash for hash in first if hash <= known}, {hash for hash in second if hash <= known}
    least = min(len(first), len(second))
    return len(first & second) / least if least else 0.0


def is_same_set(look: Look, sketch: list[str] | None) -> bool:
    """What cannot be read counts as the same."""
    return sketch is None or share(look.sketch, sketch) > SHARED


def read_sketch(folder: Path) -> tuple[str, ...]:
    """Of an evaluation; empty where it has none: its rows are then known by their fingerprint alone."""
    found = (read_json(folder / SKETCH) or {}).get("sketch")
    return tuple(str(one) for one in found) if isinstance(found, list) else ()


def record_look(rows: str, sketch: tuple[str, ...], release: str, gate: str) -> tuple[int, bool]:
    """Which look at these rows this is, and whether the artifact store counted it; where it does not answer, those of
    this machine are counted. On record before anything is judged, so that none is for nothing."""
    take_over_earlier()
    look = Look(rows, sketch, release.partition("@")[2] or release, gate)
    here = count_here(look, is_same_set)
    try:
        with waiting("looks at these test rows are counted in the artifact store"):
            return count_in_remote(look, is_same_set), True
    except ExternalError as error:
        sys.stderr.write(f"looks at these test rows are counted on this machine alone: {error.message}\n")
        return here, False


def take_over_earlier() -> None:
    """Each line, and each verdict published then, as a look by an unknown gate; what a kill cut short is none."""
    lines = EARLIER.read_text(encoding="utf8").split("\n") if EARLIER.exists() else []
    published = [path.read_text(encoding="utf8") for path in sorted(Path("releases").glob("*/gate/verdict.json"))]
    for text in (*lines, *published):
        try:
            one = json.loads(text)
            digest = str(one["digest"] if "digest" in one else one["release"]).rpartition("@")[2]
            rows = hex_of(str(one["dataset"]))
            if one.get("binding") is not None or not one["dataset"]:
                continue
        except (ValueError, KeyError, TypeError):
            continue
        path = HERE / rows / f"{hex_of(digest)}-earlier"
        if not path.exists():
            write_text(path, "{}")
