"""How many releases were judged at the same test rows: each look at a holdout wears it out a little (Dwork 2015, the
reusable holdout), so looks are counted where all see them, refusals too, and each is judged at a higher confidence than
the one before (eval/statistics/looks.py).

Test rows that share more than a tenth with others are the same set: whoever adds rows and looks again has looked twice.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from configs.errors import ExternalError
from eval.metrics.sketch import SKETCH, share
from infra.dvc.looks import Look, count_here, count_in_remote, hex_of
from infra.files.atomic import read_json, write_text
from infra.state.places import LOOKS, OLDEST_LOOKS
from infra.state.stores import settle_looks
from infra.terminal import waiting

SHARED = 0.1


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
    settle_looks()
    lines = OLDEST_LOOKS.read_text(encoding="utf8").split("\n") if OLDEST_LOOKS.exists() else []
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
        path = LOOKS / rows / f"{hex_of(digest)}-earlier"
        if not path.exists():
            write_text(path, "{}")
