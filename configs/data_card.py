"""The data card: what `prepare` found and wrote, build/NAME/data/data_card.json."""

from __future__ import annotations

import json
from typing import NotRequired, TypedDict, cast

from configs.paths import RunPaths

# Names of an earlier version, which its cards bear.
RENAMED = {"damage": "corrupt"}


class SplitCard(TypedDict):
    """Rows of one split, and their fingerprint."""

    rows: int
    sha256: str


class FindingCount(TypedDict):
    """How often a kind of fault (a key of data.lint) was found, and what was done about it."""

    kind: str
    action: str
    count: int


class NearDuplicates(TypedDict):
    """What was compared: `train_rows_indexed` of the train rows were, among themselves."""

    threshold: float
    train_rows: int
    train_rows_indexed: int


class LengthHistogram(TypedDict):
    """Rows by tokens: `counts[i]` rows have from `edges[i]` to `edges[i + 1]` of them."""

    counts: list[int]
    edges: list[int]


class DataCard(TypedDict):
    """`labels` in the order of their indices; `balance`: how often each label occurs in each split; `sources`: rows of
    each part of `data.mix` by split; `left_out`: rows by the reason for which they went; `key`: of the inputs that it
    was made from; `tokens`: of the rules by which rows became tokens, absent where an earlier version made it."""

    source: str
    licence: str
    corrupt: str
    fingerprint: str
    test_fingerprint: str
    labels: list[str]
    splits: dict[str, SplitCard]
    sources: NotRequired[dict[str, dict[str, int]]]
    left_out: dict[str, int]
    findings: list[FindingCount]
    near_duplicates: NearDuplicates
    balance: dict[str, dict[str, int]]
    lengths: LengthHistogram
    key: str
    tokens: NotRequired[str]


def read_data_card(paths: RunPaths) -> DataCard | None:
    """None where there is none. One that an earlier version wrote gets today's names."""
    try:
        found = json.loads((paths.data / "data_card.json").read_text(encoding="utf8"))
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict):
        return None
    return cast(DataCard, {RENAMED.get(name, name): value for name, value in found.items()})
