"""Budgets by day and month: summed from the ledger as it grows, over restarts, for the period that was spent alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.haproxy.api_keys import Key, KeyLimits
from serve.watch.budgets import UsedTokens, spent_budgets

NOW = 1_796_000_000.0  # 2026-11-30 12:53:20 UTC
TODAY, MONTH = "2026-11-30", "2026-11"


def line(key: str, prompt: int, completion: int) -> str:
    return json.dumps({"at": NOW, "key": key, "prompt_tokens": prompt, "completion_tokens": completion}) + "\n"


def key(name: str, **limits: Any) -> Key:
    return Key(name=name, sha256="0" * 64, created=0, limits=KeyLimits.model_validate(limits))


def used(folder: Path) -> UsedTokens:
    return UsedTokens(lambda: [folder], folder / "snapshot.json")


rows = st.lists(
    st.tuples(st.sampled_from(["2026-11-01", "2026-11-30", "2026-10-30"]), st.sampled_from("ab"), st.integers(0, 50)),
    max_size=20,
)


@pytest.mark.unit
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(parts=st.lists(st.tuples(rows, st.booleans()), max_size=4))
def test_what_is_read_bit_by_bit_and_after_restarts_is_the_sum_of_the_lines(
    tmp_path: Path, parts: list[tuple[list[tuple[str, str, int]], bool]]
) -> None:
    for path in tmp_path.iterdir():
        path.unlink()
    found, whole = used(tmp_path), list[tuple[str, str, int]]()
    for added, restarts in parts:
        for day, name, tokens in added:
            with (tmp_path / f"{day}-blue.jsonl").open("a") as stream:
                stream.write(line(name, tokens, 1))
        whole += added
        found = used(tmp_path) if restarts else found
        found.read(MONTH)
        for name in "ab":
            for period in (TODAY, "2026-11-01", MONTH):
                wanted = sum(tokens + 1 for day, by, tokens in whole if by == name and day.startswith(period))
                assert found.tokens(name, period) == wanted


@pytest.mark.unit
def test_a_torn_line_waits_for_its_end_and_one_that_is_no_row_is_passed_over(tmp_path: Path) -> None:
    path, found = tmp_path / f"{TODAY}-blue.jsonl", used(tmp_path)
    whole = line("a", 3, 4)
    path.write_text("no row\n[1]\n" + whole + whole[:20])
    found.read(MONTH)
    assert found.tokens("a", TODAY) == 7
    path.write_text("no row\n[1]\n" + whole + whole)
    found.read(MONTH)
    assert found.tokens("a", TODAY) == 14
    path.write_text(whole)
    found.read(MONTH)
    assert found.tokens("a", TODAY) == 7, "a file that was cut begins anew"


@pytest.mark.unit
def test_a_budget_is_spent_for_the_day_or_the_month_that_it_is_of(tmp_path: Path) -> None:
    found = used(tmp_path)
    (tmp_path / f"{TODAY}-blue.jsonl").write_text(line("day", 5, 5) + line("both", 5, 5) + line("none", 500, 5))
    (tmp_path / f"{TODAY}-green.jsonl").write_text(line("day", 1, 0))
    (tmp_path / "2026-11-02-blue.jsonl").write_text(line("both", 90, 0) + line("earlier", 90, 0))
    found.read(MONTH)
    keys = [
        key("day", tokens_per_day=11),
        key("less", tokens_per_day=1),
        key("both", tokens_per_day=10, tokens_per_month=100),
        key("earlier", tokens_per_day=10, tokens_per_month=91),
        key("none"),
    ]
    assert spent_budgets(keys, found, NOW) == {"day": TODAY, "both": MONTH}
    tomorrow = NOW + 86_400
    found.read("2026-12")
    assert spent_budgets(keys, found, tomorrow) == {}
