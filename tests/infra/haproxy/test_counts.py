"""Counts of replaced processes: however they are added up, nothing is lost, nothing is there twice, none goes
backwards."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.boot import ProcessId
from infra.haproxy.counts import COLUMNS, Counts, changed, read_counts, read_replaced
from infra.haproxy.replaced import ReplacedProcesses, name_of, process_of, summed

pytestmark = pytest.mark.unit
ROWS = st.fixed_dictionaries({name: st.integers(0, 99) for name in COLUMNS})
COUNTED = st.dictionaries(st.sampled_from(["blue/blue", "green/green-2", "router/FRONTEND"]), ROWS)
PROCESSES = st.lists(st.tuples(COUNTED, st.booleans()), max_size=6)


def write(folder: Path, processes: list[tuple[Counts, bool]]) -> set[ProcessId]:
    """Those of them that live."""
    found = {ProcessId(number + 1, "boot", number): one for number, one in enumerate(processes)}
    with changed(folder) as replaced:
        replaced["ended"] = {}
        replaced["processes"] = {
            name_of(process): {"keeper": 1, "stopping": True, "counts": counts}
            for process, (counts, _) in found.items()
        }
    return {process for process, (_, lives) in found.items() if lives}


def total(counts: Counts, name: str) -> int:
    return sum(row[name] for row in counts.values() if name in row)


@given(processes=PROCESSES)
def test_added_up_or_not_it_is_the_same_sum(
    tmp_path_factory: pytest.TempPathFactory, processes: list[tuple[Counts, bool]]
) -> None:
    folder = tmp_path_factory.mktemp("router")
    living = write(folder, processes)
    replaced = ReplacedProcesses(folder)
    with patch("infra.haproxy.replaced.is_alive", lambda process: process in living):
        before = replaced.counts(0)
        replaced.add_up()
        assert replaced.counts(0) == before
        replaced.add_up()
        assert replaced.counts(0) == before
        assert {process_of(name) for name in read_replaced(folder)["processes"]} == living
    for name in set(COLUMNS) - {"scur", "srv_abrt"}:
        assert total(before, name) == sum(total(counts, name) for counts, _ in processes)
    assert total(before, "scur") == sum(total(counts, "scur") for counts, lives in processes if lives)
    ended = sum(total(counts, "scur") for counts, lives in processes if not lives)
    assert total(before, "srv_abrt") == ended + sum(total(counts, "srv_abrt") for counts, _ in processes)


@given(processes=PROCESSES, more=st.integers(0, 99))
def test_a_router_that_starts_begins_at_zero_and_only_grows(
    tmp_path_factory: pytest.TempPathFactory, processes: list[tuple[Counts, bool]], more: int
) -> None:
    folder = tmp_path_factory.mktemp("router")
    living = write(folder, processes)
    replaced = ReplacedProcesses(folder)
    with patch("infra.haproxy.replaced.is_alive", lambda process: process in living):
        replaced.begin_anew()
        found = replaced.counts(0)
        assert all(total(found, name) == 0 for name in COLUMNS if name != "scur")
        assert total(found, "scur") == sum(total(counts, "scur") for counts, lives in processes if lives)
        with changed(folder) as kept:
            for one in kept["processes"].values():
                one["counts"] = summed([one["counts"], {"blue/blue": {"stot": more}}])
        assert total(replaced.counts(0), "stot") == more * len(living)


def test_a_process_counts_itself_and_one_that_got_the_pid_of_an_earlier_one_does_too(tmp_path: Path) -> None:
    write(tmp_path, [({"blue/blue": dict.fromkeys(COLUMNS, 7)}, False)])
    replaced = ReplacedProcesses(tmp_path)
    with patch("infra.haproxy.replaced.is_taken", lambda process: False):
        assert total(replaced.counts(1), "stot") == 0
    assert total(replaced.counts(1), "stot") == 7


def test_columns_that_a_row_has_not_are_zero() -> None:
    stat = "# pxname,svname,scur,stot,wredis,hrsp_5xx,econ,eresp,srv_abrt,cli_abrt,\nblue,blue,1,2,,3,,,,4,\n\n"
    found = read_counts(stat)["blue/blue"]
    assert found == dict.fromkeys(COLUMNS, 0) | {"scur": 1, "stot": 2, "hrsp_5xx": 3, "cli_abrt": 4}


def test_a_damaged_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "replaced.json").write_text("{")
    assert read_replaced(tmp_path) == {"ended": {}, "processes": {}}
