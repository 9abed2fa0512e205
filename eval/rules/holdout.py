"""How many releases were judged at the same test rows: each use of a holdout wears it out a little (Dwork 2015, the
reusable holdout), so uses are counted and shown."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

USES = Path("build/looks.jsonl")
Use = tuple[str, str]  # fingerprint of the test rows, digest


def count_uses(uses: Iterable[Use], dataset: str, release: str) -> int:
    """Distinct digests judged at `dataset`, `release` among them: the same bytes judged again, under any name, are no
    further use."""
    return len({digest_of(one) for rows, one in uses if rows == dataset} | {digest_of(release)})


def digest_of(reference: str) -> str:
    return reference.partition("@")[2] or reference


def record_use(dataset: str, release: str) -> int:
    """Puts this use on record, once, and counts all, this one too."""
    seen = read_uses()
    mine = (dataset, digest_of(release))
    if mine not in seen:
        USES.parent.mkdir(parents=True, exist_ok=True)
        torn = USES.exists() and not USES.read_bytes().endswith(b"\n") and USES.stat().st_size > 0
        with USES.open("a", encoding="utf8") as stream:
            stream.write(("\n" if torn else "") + json.dumps({"dataset": dataset, "digest": mine[1]}) + "\n")
    return count_uses([*seen, *published_uses()], dataset, release)


def read_uses() -> list[Use]:
    """A line cut short by a kill is no use."""
    found: list[Use] = []
    for line in USES.read_text(encoding="utf8").split("\n") if USES.exists() else []:
        try:
            one = json.loads(line)
            found.append((str(one["dataset"]), str(one["digest"])))
        except (ValueError, KeyError, TypeError):
            continue
    return found


def published_uses() -> list[Use]:
    """What other machines judged and published."""
    found: list[Use] = []
    for path in sorted(Path("releases").glob("*/gate/verdict.json")):
        try:
            one = json.loads(path.read_text(encoding="utf8"))
            found.append((str(one["dataset"]), digest_of(str(one["release"]))))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found
