"""A sketch of test rows, by which they are known again when others are added: the smallest hashes of what is asked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

SKETCH = "rows.json"  # of an evaluation
SKETCHED_ROWS = 512


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
