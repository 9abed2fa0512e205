"""`data.mix`: parts in proportion to their weights, and how many rows of each a split got."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from configs.rows.data import Data
from train.data.splits import SPLITS
from train.data.table import RowTable
from train.sources.source import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

BEYOND = "beyond_weight"


def weigh(order: NDArray[Any], table: RowTable, data: Data, source: Source) -> NDArray[Any]:
    """`order` with the parts in proportion; what is beyond it is left out and counted."""
    import numpy

    weights = [part.weight for part in data.mix if part.weight is not None]
    if not weights:
        return order
    kept = interleave(order, part_of(table, data, source), weights)
    table.leave_out(numpy.setdiff1d(order, kept), BEYOND)
    return kept


def interleave(order: NDArray[Any], part: NDArray[Any], weights: list[float]) -> NDArray[Any]:
    """Rows of `order` in an order any beginning of which has the parts in proportion to their weights, to within a row
    of each; it ends where a part is used up. `part`: of all rows, an index of `weights`."""
    import numpy

    of = part[order]
    place = numpy.zeros(len(order))
    end = numpy.inf
    for index, weight in enumerate(weights):
        members = numpy.flatnonzero(of == index)
        place[members] = (numpy.arange(len(members)) + 0.5) / weight
        end = min(end, len(members) / weight)
    mixed = numpy.argsort(place, kind="stable")
    kept: NDArray[Any] = order[mixed[place[mixed] < end]]
    return kept


def part_of(table: RowTable, data: Data, source: Source) -> NDArray[Any]:
    """The index of each row's part of the mix."""
    import numpy

    names = [part.name for part in data.mix]
    by_file = numpy.array([names.index(source.owners[file]) for file in table.files], dtype="int16")
    found: NDArray[Any] = by_file[table.file]
    return found


def count_parts(table: RowTable, split: NDArray[Any], data: Data, source: Source) -> dict[str, dict[str, int]]:
    """Rows by part and split; empty where the rows are of one source."""
    if not data.mix:
        return {}
    part = part_of(table, data, source)
    return {
        named.name: {name: int(((part == index) & (split == code)).sum()) for code, name in enumerate(SPLITS)}
        for index, named in enumerate(data.mix)
    }
