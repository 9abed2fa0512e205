"""Usage as counters: what the ledger says, whoever holds the environment and whatever is removed; read once."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

import serve.exporter.usage_counters
from configs.release import short
from serve.exporter.exporter import as_text
from serve.exporter.figures import label
from serve.exporter.usage_counters import OTHERS, UsageCounters, usage_figures
from serve.view.usage import read_usage, summed

pytestmark = pytest.mark.unit
DAY = 86_400.0
RELEASES = ["calls@sha256:" + "1" * 64, "calls@sha256:" + "2" * 64, "calls@" + "3" * 12]
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=200)  # halves of a surrogate pair too
ROW = st.fixed_dictionaries(
    {
        "at": st.floats(0, 4e9),
        "key": st.sampled_from(["search", "mobile", "jwt:ann%40example.org", ""]),
        "release": st.sampled_from(RELEASES),
        "prompt_tokens": st.integers(0, 10**9),
        "completion_tokens": st.integers(0, 10**9),
    }
)


def counters(folder: Path) -> UsageCounters:
    return UsageCounters(folder / "usage", folder / "usage.snapshot.json")


def add(folder: Path, *rows: dict[str, Any], file: str = "2026-11-28-blue") -> Path:
    path = folder / "usage" / f"{file}.jsonl"
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def row(key: str = "search", at: float = 0.0, release: str = RELEASES[0], tokens: int = 1) -> dict[str, Any]:
    return {"at": at, "key": key, "release": release, "prompt_tokens": tokens, "completion_tokens": 2 * tokens}


@settings(max_examples=40)  # each writes files
@given(st.lists(st.tuples(st.sampled_from(["blue", "green"]), ROW, st.sampled_from(["", "read", "restart"]))))
def test_it_is_what_tunegate_usage_says_however_often_it_was_read_and_begun_anew(
    steps: list[tuple[str, dict[str, Any], str]],
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        one = counters(folder)
        for slot, found, then in steps:
            add(folder, found, file=f"2026-11-28-{slot}")
            if then:
                one.read()
            one = counters(folder) if then == "restart" else one
        used = one.read()
        for by, place in (("key", 0), ("release", 1)):
            expected = {
                label(short(each["group"]) if by == "release" else each["group"]): each
                for each in summed(read_usage(folder / "usage", 0, 5e9), by)  # type: ignore[arg-type]  # a literal
            }
            for group, each in expected.items():
                mine = [value for pair, value in used.items() if pair[place] == group]
                assert sum(value.requests for value in mine) == each["requests"]
                assert sum(value.prompt_tokens for value in mine) == each["prompt_tokens"]
                assert sum(value.completion_tokens for value in mine) == each["completion_tokens"]


def test_what_was_billed_and_removed_stays_counted_and_only_what_came_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = add(tmp_path, *[row() for _ in range(500)])
    counters(tmp_path).read()
    first.unlink()
    add(tmp_path, row(), file="2026-11-29-blue")
    read: list[bytes] = []
    count = UsageCounters.count
    monkeypatch.setattr(UsageCounters, "count", lambda self, line: (read.append(line), count(self, line)))
    again = counters(tmp_path)
    (used,) = again.read().values()
    assert used.requests == 501 and len(read) == 1
    add(tmp_path, row(), row(), file="2026-11-29-blue")
    assert next(iter(again.read().values())).requests == 503 and len(read) == 3
    again.read()
    assert len(read) == 3


def test_a_line_counts_once_it_is_whole_and_what_is_no_row_never_does(tmp_path: Path) -> None:
    path, one = add(tmp_path, row()), counters(tmp_path)
    whole = json.dumps(row())
    with path.open("a") as stream:
        stream.write('null\n[]\n{"at": "then"}\n{"at": 1, "key": "x", "prompt_tokens": 1e999}\n\xff\n' + whole[:20])
    assert next(iter(one.read().values())).requests == 1
    with path.open("a") as stream:
        stream.write(whole[20:] + "\n")
    assert [used.requests for used in one.read().values()] == [2]


def test_a_file_that_was_cut_is_read_from_its_beginning(tmp_path: Path) -> None:
    path, one = add(tmp_path, row(), row()), counters(tmp_path)
    one.read()
    path.write_text(json.dumps(row()) + "\n")
    assert [used.requests for used in one.read().values()] == [3]


@pytest.mark.parametrize("spoilt", ["", "[]", '{"read_to": 1}', '{"read_to": {}, "sums": [["a"]]}', '{"sums": []}'])
def test_without_its_snapshot_it_counts_what_is_there(tmp_path: Path, spoilt: str) -> None:
    add(tmp_path, row(), row())
    counters(tmp_path).read()
    (tmp_path / "usage.snapshot.json").write_text(spoilt)
    assert [used.requests for used in counters(tmp_path).read().values()] == [2]


def test_more_keys_than_prometheus_should_have_are_one_and_those_long_unused_make_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve.exporter.usage_counters, "MOST_SERIES", 3)
    one = counters(tmp_path)
    add(tmp_path, *[row(f"jwt:{number}", at=DAY) for number in range(9)], row("jwt:0", at=2 * DAY))
    found = {key: used.requests for (key, _), used in one.read().items()}
    assert found == {"jwt:0": 2, "jwt:1": 1, "jwt:2": 1, OTHERS: 6}
    add(tmp_path, row("new", at=31.5 * DAY), row("newer", at=32.5 * DAY))
    assert {key for key, _ in one.read()} == {"jwt:0", "new", "newer"}


def test_while_another_thread_reads_nobody_waits(tmp_path: Path) -> None:
    add(tmp_path, row())
    one = counters(tmp_path)
    with one.lock:
        assert one.read() == {}
    assert len(one.read()) == 1


def test_a_disk_that_takes_nothing_ends_nothing(tmp_path: Path) -> None:
    add(tmp_path, row())
    one = UsageCounters(tmp_path / "usage", Path("/proc/nowhere/usage.snapshot.json"))
    assert [used.requests for used in one.read().values()] == [1]


@settings(max_examples=40)
@given(ANY_TEXT, ANY_TEXT)
def test_whatever_a_key_is_called_it_is_one_value_on_one_line(key: str, release: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        add(Path(name), row(key, release=release))
        text = as_text(usage_figures(counters(Path(name)).read())).decode()
    lines = [line for line in text.split("\n") if line and not line.startswith("#")]
    assert len(lines) == 3
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert {sample.name for sample in samples} == {
        f"tunegate_usage_{name}_total" for name in ("requests", "prompt_tokens", "completion_tokens")
    }
    assert all(sample.labels == {"key": label(key), "release": label(short(release))} for sample in samples)
    assert all(len(value) <= 80 and value.isprintable() for sample in samples for value in sample.labels.values())
