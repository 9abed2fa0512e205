"""What the rows of a release are like, by its reference."""

from __future__ import annotations

from pathlib import Path

from configs.data_card import RowsSummary, read_released
from infra.dvc.releases import find, list_releases
from infra.lineage.trace import choose, identify


def rows_of_release(text: str) -> RowsSummary:
    """`text`: a published release (fetched where it is not here) by reference or digest, or a release's directory.
    Raises InputError where there is none, or where it does not say what its rows are like."""
    if Path(text).is_dir():
        return read_released(Path(text))["summary"]
    reference = choose(identify(text), {row["reference"] for row in list_releases()})
    return read_released(find(reference) / "release")["summary"]
