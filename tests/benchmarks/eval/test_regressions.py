"""The faults that `make prove-eval` plants are judged by the gates that ship, which ask what should refuse each."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.eval.promises import CONFIGS, good_config
from benchmarks.eval.regressions import FAULTS, SLICE_WORDS, WOMEN
from benchmarks.prove import FOLDER
from configs.loader import load
from configs.rules.gate import GateConfig
from configs.run.behaviour import Invariance
from configs.run.config import RunConfig

pytestmark = pytest.mark.unit
NO_RULE = {"served", "bytes"}  # refused before any rule is asked


@pytest.mark.parametrize("family", CONFIGS)
def test_the_shipped_gate_has_a_rule_for_every_planted_fault(family: str) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    shipped, judged = load(Path(f"configs/finetune/{CONFIGS[family]}.yaml"), RunConfig), good_config(family)
    assert judged.gate == shipped.gate and judged.evaluate == shipped.evaluate
    kinds = {rule.rule for rule in load(Path(shipped.gate), GateConfig).rules} | NO_RULE
    faults = [case for case in FAULTS if case.family == family]
    assert faults and all({*case.hoped} & kinds for case in faults)
    assert {kind for case in faults for kind in case.hoped} <= kinds


def test_the_shipped_config_asks_of_the_words_that_are_broken() -> None:
    evaluate = load(Path("configs/finetune/sentiment.yaml"), RunConfig).evaluate
    goods = next(one for one in evaluate.slice_definitions if one.name == "goods")
    assert goods.where and all(f"'{word}' in question" in goods.where for word in SLICE_WORDS)
    names = next(test for test in evaluate.behaviour if isinstance(test, Invariance))
    assert {*WOMEN} == {*names.words["female"]}
