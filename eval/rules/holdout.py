"""How many releases were judged at the same test rows: each look wears them out a little (Dwork 2015, the reusable holdout), so they are counted and shown."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

LOOKS = Path("build/looks.jsonl")
Look = tuple[str, str]  # fingerprint of the test rows, digest


def count_looks(looks: Iterable[Look], dataset: str, release: str) -> int:
    """Distinct digests judged at `dataset`, `release` among them: the same bytes judged again, under any name, are no further look."""
    return len({digest_of(one) for rows, one in looks if rows == dataset} | {digest_of(release)})


def digest_of(reference: str) -> str:
    return reference.partition("@")[2] or reference


def look(dataset: str, release: str) -> int:
    """Counts this look too and puts it on record, once."""
    seen = read_looks()
    mine = (dataset, digest_of(release))
    if mine not in seen:
        LOOKS.parent.mkdir(parents=True, exist_ok=True)
        torn = LOOKS.exists() and not LOOKS.read_bytes().endswith(b"\n") and LOOKS.stat().st_size > 0
        with LOOKS.open("a", encoding="utf8") as stream:
            stream.write(("\n" if torn else "") + json.dumps({"dataset": dataset, "digest": mine[1]}) + "\n")
    return count_looks([*seen, *published_looks()], dataset, release)


def read_looks() -> list[Look]:
    """A line cut short by a kill is no look."""
    found: list[Look] = []
    for line in LOOKS.read_text(encoding="utf8").splitlines() if LOOKS.exists() else []:
        try:
            one = json.loads(line)
            found.append((str(one["dataset"]), str(one["digest"])))
        except (ValueError, KeyError, TypeError):
            continue
    return found


def published_looks() -> list[Look]:
    """What other machines judged and published."""
    found: list[Look] = []
    for path in sorted(Path("releases").glob("*/gate/verdict.json")):
        try:
            one = json.loads(path.read_text(encoding="utf8"))
            found.append((str(one["dataset"]), digest_of(str(one["release"]))))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found
