"""How often the same test rows were used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.rules.holdout import USES, count_uses, record_use

pytestmark = pytest.mark.unit
DIGESTS = [letter * 64 for letter in "abc"]
PAIRS = st.lists(
    st.tuples(st.sampled_from(["rows-1", "rows-2"]), st.sampled_from([f"sha256:{one}" for one in DIGESTS]))
)


@given(PAIRS, PAIRS)
def test_the_count_is_of_distinct_bytes_in_any_order_and_never_falls(
    uses: list[tuple[str, str]], more: list[tuple[str, str]]
) -> None:
    mine = f"run@sha256:{DIGESTS[0]}"
    found = count_uses(uses, "rows-1", mine)
    assert (
        1
        <= found
        == count_uses([*reversed(uses), *uses], "rows-1", mine)
        <= count_uses([*uses, *more], "rows-1", mine)
        <= len(DIGESTS)
    )
    assert found == count_uses(uses, "rows-1", f"renamed@sha256:{DIGESTS[0]}")


def test_each_release_is_a_use_once_and_other_rows_have_their_own_count(checkout: Path) -> None:
    one, other, third = (f"run@sha256:{digest}" for digest in DIGESTS)
    assert [record_use("rows-1", release) for release in (one, one, other, one)] == [1, 1, 2, 2]
    assert record_use("rows-2", one) == 1 and len(USES.read_text().splitlines()) == 3
    with USES.open("a") as stream:
        stream.write('{"dataset": "rows-1", "dig')  # killed
    assert record_use("rows-1", third) == 3 == record_use("rows-1", third)


def test_what_others_published_counts_too(checkout: Path) -> None:
    folder = checkout / "releases/run@bbbbbbbbbbbb/gate"
    folder.mkdir(parents=True)
    (folder / "verdict.json").write_text(json.dumps({"release": f"run@sha256:{DIGESTS[1]}", "dataset": "rows-1"}))
    torn = checkout / "releases/torn@cccccccccccc/gate"
    torn.mkdir(parents=True)
    (torn / "verdict.json").write_text("{")
    assert record_use("rows-1", f"run@sha256:{DIGESTS[0]}") == 2
    assert (
        record_use("rows-1", f"run@sha256:{DIGESTS[1]}") == 2 and record_use("rows-2", f"run@sha256:{DIGESTS[1]}") == 1
    )
