"""The data card: what `prepare` found and wrote, build/NAME/data/data_card.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NotRequired, TypedDict, cast

from configs.errors import InputError
from configs.paths import RunPaths

DATA_CARD = "data_card.json"
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
    """What was compared: `train_rows_indexed` of the train rows were, among themselves. `shared_runs`: how many runs of
    five words many rows share, which did not count."""

    threshold: float
    train_rows: int
    train_rows_indexed: int
    shared_runs: NotRequired[int]


class LengthHistogram(TypedDict):
    """Rows by tokens: `counts[i]` rows have from `edges[i]` to `edges[i + 1]` of them."""

    counts: list[int]
    edges: list[int]


class NumberBins(TypedDict):
    """Rows by a number: `counts[i]` have at most `upper[i]` and more than the one before; the last count is of those
    above."""

    upper: list[float]
    counts: list[int]


class RowsSummary(TypedDict):
    """What train rows are like, for later rows to be held against. `vocabulary`: of one word a row, drawn by its id,
    how many fall into each bucket of a hash: no row can be told from it."""

    rows: int
    labels: dict[str, int]
    sources: dict[str, int]
    words: NumberBins
    values: NumberBins
    vocabulary: list[int]


class ReleasedCard(TypedDict):
    """What of the data card goes into a release."""

    fingerprint: str
    summary: RowsSummary


class DataCard(TypedDict):
    """`labels` in the order of their indices; `balance`: how often each label occurs in each split; `sources`: rows
    of each part of `data.mix` by split; `left_out`: rows by the reason for which they went; `tags`: the scheme that
    the rows' tags were in (`labels` are in IOB2); `pair_separator`: what stands between the two texts of a pair;
    `folds`: rows of each fold of evaluate.folds, all of them test rows beside what else they are; `key`: of the
    inputs that it was made from; `tokens`: of the rules by which rows became tokens, absent where an earlier
    version made it."""

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
    tags: NotRequired[str]
    pair_separator: NotRequired[str]
    folds: NotRequired[list[int]]
    lengths: LengthHistogram
    key: str
    summary: NotRequired[RowsSummary]
    tokens: NotRequired[str]


def read_data_card(paths: RunPaths) -> DataCard | None:
    """None where there is none. One that an earlier version wrote gets today's names."""
    try:
        found = json.loads((paths.data / DATA_CARD).read_text(encoding="utf8"))
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict):
        return None
    return cast(DataCard, {RENAMED.get(name, name): value for name, value in found.items()})


def released(card: DataCard) -> ReleasedCard | None:
    """None of a card that an earlier version wrote."""
    return {"fingerprint": card["fingerprint"], "summary": card["summary"]} if "summary" in card else None


def read_released(directory: Path) -> ReleasedCard:
    """Of a release's directory. Raises InputError where it holds none that says what the rows are like."""
    try:
        found = json.loads((directory / DATA_CARD).read_text(encoding="utf8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or "summary" not in found:
        raise InputError(
            f"{directory}: found no {DATA_CARD} that sums up its rows, expected one: older releases have none",
            hint="name a release that was made later, or make it anew: tunegate run CONFIG",
        )
    return cast(ReleasedCard, found)
