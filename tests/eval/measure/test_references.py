"""Which releases a gate compares with, and which of them could answer the run's rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from configs.release import Manifest
from configs.rules.gate import GateConfig
from configs.run.config import RunConfig
from eval.measure.references import references_of, why_incompatible

pytestmark = pytest.mark.unit
CHAMPION = "old@sha256:" + "c" * 64


def gate(*rules: dict[str, Any]) -> GateConfig:
    return GateConfig.model_validate({"rules": [{"rule": "parity"}, *rules]})


def test_the_champion_is_wanted_where_a_rule_names_it_and_one_is_pinned() -> None:
    against = {"rule": "non_inferior_to", "metric": "accuracy", "margin": 0.1}
    assert references_of(gate(against), CHAMPION) == {"champion": CHAMPION}
    assert (
        references_of(gate(against), None)
        == references_of(gate(), CHAMPION)
        == references_of(gate(against | {"reference": "base"}), CHAMPION)
        == {}
    )


def test_a_release_that_a_rule_names_is_wanted_by_its_folders_name() -> None:
    named = gate().model_copy(
        update={"rules": [gate({"rule": "superior_to", "metric": "accuracy", "reference": CHAMPION}).rules[1]]}
    )
    assert references_of(named, None) == {"old@" + "c" * 12: CHAMPION}


def test_a_model_of_another_task_cannot_answer(
    config: Callable[..., RunConfig], write_release: Callable[..., Manifest]
) -> None:
    write_release(Path("r"), name="old")
    assert why_incompatible(config(), Path("r")) is None
    for fields in ({"task": "causal-lm"}, {"problem": "regression"}):
        write_release(Path("r"), name="old", **fields)
        assert "model" in str(why_incompatible(config(), Path("r")))


@pytest.fixture(autouse=True)
def here(checkout: Path) -> None:
    """In a folder of the test's own."""
