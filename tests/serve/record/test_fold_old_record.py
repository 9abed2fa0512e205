"""A record and a receipt that f94eda2 wrote are read as that version read them.

The record is of a day of deploys by that version (tests/support/old_world); old.folded.jsonl is what its own fold made
of each line: NAME@DIGEST12, and the flags that were up.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from configs.release import short
from infra.files.sealed_log import check
from serve.record.event import Event, in_one_line
from serve.record.facts import Started
from serve.record.fold import apply
from serve.record.receipt import for_people
from serve.record.receipt import in_one_line as receipt_in_one_line
from serve.record.record import Record
from serve.record.state import State
from serve.switch.shared_server import adapter_limits_of
from tests.paths import ROOT
from tests.support.record_contract import check_facts

pytestmark = pytest.mark.unit
OLD = ROOT / "tests/support/old_world"
STATE_DIR = OLD / "build/deploy/old"
RECORD = Record(STATE_DIR / "events.jsonl")


def summary(state: State, event: Event) -> dict[str, Any]:
    wanted, moves, counters = state.wanted, state.moves, state.moves.baseline_counters
    flags = {"rollback": wanted.rollback, "paused": wanted.paused, "held": wanted.held, "baked": state.baked}
    flags |= {"refused": state.refused is not None, "paged": state.paged is not None}
    releases = {
        "blue": state.release_of("blue"),
        "green": state.release_of("green"),
        "desired": wanted.desired,
        "pinned": wanted.pinned,
        "failed": wanted.failed,
        "last_good": state.last_good,
    }
    found = {
        "kind": event.kind,
        "active": state.active,
        **{name: short(release) for name, release in releases.items() if release},
        "flags": " ".join(name for name, is_up in flags.items() if is_up),
        "weight": moves.weight,
        "analysed": moves.analysed,
        "switching": moves.switching,
        "swapping": moves.swapping,
        "capacity": state.capacity,
        "crashes": len(state.crashes),
        "queued": moves.switch["queued_seconds"] if moves.switch else None,
        "drained": moves.switch["drained_seconds"] if moves.switch else None,
        "began": counters["at"] if counters else None,
    }
    return {name: value for name, value in found.items() if value not in (None, 0, "")}


def test_every_line_is_read_and_folds_to_what_it_folded_to() -> None:
    expected = [json.loads(line) for line in (OLD / "said/old.folded.jsonl").read_text().splitlines()]
    state, found = State(), []
    for event in RECORD.read():
        state = apply(state, event)
        found.append(summary(state, event))
    assert found == expected


def test_its_facts_are_those_of_the_contract_and_its_seals_hold() -> None:
    events = RECORD.read()
    for event in events:
        check_facts(event)
        assert in_one_line(event)
    seals = check(RECORD.path.read_bytes())
    assert seals.broken is None and len(seals.seals) == len(events) > 100


def test_its_receipt_is_shown() -> None:
    receipt = json.loads((STATE_DIR / "receipts/2026-11-27T020125.003+0000.json").read_text())
    assert "0 cut" in receipt_in_one_line(receipt) and "longest drain seconds" in for_people(receipt)


def test_what_a_server_takes_besides_is_read_under_its_old_name_too() -> None:
    limits: Any = {"rank": 8, "layers": ["q_proj"]}
    server: Started = {"pid": 1, "create_time": 0.0, "port": 8101, "log": "blue.log"}
    assert (
        adapter_limits_of({**server, "room": limits})
        == limits
        == adapter_limits_of({**server, "adapter_limits": limits})
    )
    assert adapter_limits_of(server) is None is adapter_limits_of(None)
