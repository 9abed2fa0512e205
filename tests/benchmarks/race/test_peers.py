"""What is told of a peer beside its speed."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.race.peers import PEERS, count_keys, table, versions

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("config", "keys"),
    [
        ({}, 0),
        ({"rate": 0.1, "train": {"steps": 1, "lora": {"rank": 16}}}, 3),
        ({"files": ["a.jsonl", "b.jsonl"]}, 1),
        ({"datasets": [{"path": "a", "type": "chat"}, {"path": "b"}]}, 3),
    ],
)
def test_a_key_counts_where_it_holds_a_value(config: dict[str, Any], keys: int) -> None:
    assert count_keys(config) == keys


@pytest.mark.parametrize("peer", PEERS)
def test_a_peers_versions_are_those_of_its_lock(peer: str) -> None:
    said = versions(peer)
    assert "torch 2.13.0" in said and "transformers 5." in said and "peft 0." in said


def test_a_bar_in_a_cell_does_not_part_it() -> None:
    assert table(["case", "seen"], [["a|b", 1]])[-1] == "| a&#124;b | 1 |"
