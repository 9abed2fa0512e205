"""Which row trains and which is held out (validation, test). Held-out rows are drawn first and from all rows, so runs
that differ only in max_rows are evaluated on the same ones."""

from __future__ import annotations

import math
import random
from array import array
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from configs.data_card import NearDuplicates
from configs.errors import InputError
from configs.rows.data import Data
from train.data.table import RowTable, hash_text
from train.sources.source import Fault, Row

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPLITS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST, UNUSED = 0, 1, 2, -1
HINT = "lower data.test_rows or data.validation_rows, or raise data.max_tokens or data.max_rows"


@dataclass(frozen=True)
class Drawn:
    """Rows that were looked at, and the split of each; `order` is that in which they were drawn. `fold`: in which each
    row is held out (evaluate.folds): all of them are then test rows beside what else they are."""

    table: RowTable
    order: NDArray[Any]
    split: NDArray[Any]
    near: NearDuplicates
    fold: NDArray[Any] | None = None

    def members(self, code: int) -> NDArray[Any]:
        """Whether each row is in this split."""
        found: NDArray[Any] = self.fold != UNUSED if code == TEST and self.fold is not None else self.split == code
        return found

    def sources(self) -> dict[str, int]:
        """Train rows by where they were read."""
        import numpy

        counts = numpy.bincount(self.table.file[self.split == TRAIN], minlength=len(self.table.files))
        return {name: count for name, count in zip(self.table.files, counts.tolist(), strict=True) if count}


def draw_order(ids: Any, seed: int) -> NDArray[Any]:
    """Indices of `ids` (a pyarrow array of strings) in an order that depends on the ids and the seed, not on how the
    rows came."""
    import pyarrow.compute

    by_id = pyarrow.compute.sort_indices(ids).to_numpy().astype("int64")
    drawn: NDArray[Any] = by_id[shuffled(len(by_id), seed)]
    return drawn


def shuffled(count: int, seed: int) -> array[int]:
    """random.Random(seed).sample(range(count), count), which makes an object of each number, in an array's 8 bytes
    each (Fisher and Yates 1938)."""
    pool, draw = array("q", range(count)), random.Random(seed).randrange
    for end in range(count - 1, -1, -1):
        place = draw(end + 1)
        pool[place], pool[end] = pool[end], pool[place]
    pool.reverse()
    return pool


def rows_needed(data: Data) -> int:
    """Fewer cannot be split."""
    return len(SPLITS) if data.split.method == "given" else data.test_rows + data.validation_rows + 1


def assign(
    order: NDArray[Any],
    data: Data,
    *,
    grouped: bool = False,
    part: NDArray[Any],
    group: NDArray[Any],
    time: NDArray[Any],
    stratum: NDArray[Any],
) -> NDArray[Any]:
    """The split of each row: TRAIN, VALIDATION, TEST or UNUSED (left out before, or beyond max_rows).

    `order` holds the indices of the rows that may be used, as drawn; the other arrays speak of all rows. `grouped`:
    also where rows are drawn at random, no group is in two splits. Raises InputError where rows are too few.
    """
    import numpy

    split = numpy.full(len(part), UNUSED, dtype="int8")
    if data.split.method == "given":
        split[order] = part[order] - 1  # ingest.PARTS: train, validation, test are 1, 2, 3
        return require_rows(limit(split, order, data), rows_needed(data))
    needed = rows_needed(data)
    if min(len(order), data.max_rows or len(order)) < needed:
        raise InputError(
            f"data: found {min(len(order), data.max_rows or len(order))} usable rows, expected at least {needed}",
            hint=HINT,
        )
    if data.split.method == "temporal":
        order = order[numpy.argsort(-time[order], kind="stable")]  # newest first: max_rows leaves out the oldest
    hold_out(split, order, data, grouped=grouped, group=group, stratum=stratum)
    return require_rows(limit(split, order, data), needed)


def hold_out(
    split: NDArray[Any], order: NDArray[Any], data: Data, *, grouped: bool, group: NDArray[Any], stratum: NDArray[Any]
) -> None:
    """Fills `split` for the rows of `order`: test rows first, then validation rows, the rest trains."""
    if data.split.method == "grouped" or (grouped and data.split.method == "random"):
        draw_groups(split, order, group, data)
    elif data.split.method == "stratified":
        draw_shares(split, order, stratum, data)
    else:
        split[order] = TRAIN
        split[order[: data.test_rows]] = TEST
        split[order[data.test_rows : data.test_rows + data.validation_rows]] = VALIDATION


def limit(split: NDArray[Any], order: NDArray[Any], data: Data) -> NDArray[Any]:
    """max_rows bounds all three together; only train rows go."""
    if data.max_rows is not None:
        train = order[split[order] == TRAIN]
        room = max(0, data.max_rows - int((split > TRAIN).sum()))
        split[train[room:]] = UNUSED
    return split


def require_rows(split: NDArray[Any], needed: int) -> NDArray[Any]:
    counts = {name: int((split == code).sum()) for code, name in enumerate(SPLITS)}
    if not all(counts.values()):
        raise InputError(
            f"data: found {counts} usable rows, expected some in each split and at least {needed} in all", hint=HINT
        )
    return split


def draw_groups(split: NDArray[Any], order: NDArray[Any], group: NDArray[Any], data: Data) -> None:
    """Whole groups, in the order in which their first row was drawn, until a split has its rows; the last group may
    bring more."""
    import numpy

    groups, first, inverse, sizes = numpy.unique(
        group[order], return_index=True, return_inverse=True, return_counts=True
    )
    drawn = numpy.argsort(first, kind="stable")
    before = numpy.concatenate([[0], numpy.cumsum(sizes[drawn])[:-1]])  # rows in the groups drawn before each
    test_end = int(sizes[drawn][before < data.test_rows].sum())
    code = numpy.full(len(groups), TRAIN, dtype="int8")
    code[drawn[before < test_end + data.validation_rows]] = VALIDATION
    code[drawn[before < data.test_rows]] = TEST
    split[order] = code[inverse]


def draw_shares(split: NDArray[Any], order: NDArray[Any], stratum: NDArray[Any], data: Data) -> None:
    """Each stratum gives its share of the held-out rows, rounded by largest remainder; its last row is trained on,
    where the strata have rows enough for that."""
    import numpy

    strata, inverse, sizes = numpy.unique(stratum[order], return_inverse=True, return_counts=True)
    spared = int(len(order) - len(strata) >= data.test_rows + data.validation_rows)
    test = share_out(data.test_rows, sizes, sizes - spared)
    validation = share_out(data.validation_rows, sizes, sizes - spared - test)
    split[order] = TRAIN
    for index in range(len(strata)):
        members = order[inverse == index]
        split[members[: test[index]]] = TEST
        split[members[test[index] : test[index] + validation[index]]] = VALIDATION


def share_out(total: int, sizes: NDArray[Any], room: NDArray[Any]) -> NDArray[Any]:
    """`total` rows over strata of these sizes by largest remainder (Hamilton), none beyond its room."""
    import numpy

    exact = total * sizes / sizes.sum()
    shares: NDArray[Any] = numpy.minimum(numpy.floor(exact).astype("int64"), room)
    while shares.sum() < total:
        remainder = numpy.where(shares < room, exact - shares, -numpy.inf)
        shares[int(numpy.argmax(remainder))] += 1
    return shares


def order_of(raw: Row, data: Data) -> tuple[int, float] | Fault:
    """Group (a hash) and time (seconds since 1970, or the number given), where the split asks for one of them."""
    if data.split.by is None:
        return 0, 0.0
    value = raw.get(data.split.by)
    if value is None:
        return Fault("missing_field", f"nothing in column {data.split.by}", "a value, for data.split.by names it")
    if data.split.method == "grouped":
        return hash_text(str(value)), 0.0
    try:
        return 0, seconds_of(value)
    except (ValueError, TypeError, OverflowError):
        return Fault("missing_field", f"{data.split.by}: {value!r}", "a number or an ISO 8601 time")


def seconds_of(value: Any) -> float:
    """A time without a zone is UTC."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = datetime.fromisoformat(value)
    seconds = (
        (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
        if isinstance(value, datetime)
        else float(value)
    )
    if not math.isfinite(seconds):
        raise ValueError(f"{value} is no time")
    return seconds
