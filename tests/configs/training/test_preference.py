"""Each method of preference tuning has defaults of its own, and refuses the keys that it does not read."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import ValidationError

from configs.run.config import RunConfig
from configs.run.sweep import with_values
from configs.training.defaults import default_learning_rate
from configs.training.preference import BETAS, Preference, PreferenceMethod
from tests.configs.training.test_lora import run

pytestmark = pytest.mark.unit
METHODS: tuple[PreferenceMethod, ...] = get_args(PreferenceMethod)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_not_given_is_the_methods_own_and_is_written_down(method: PreferenceMethod) -> None:
    config = run("dpo", preference={"method": method})
    written = config.model_dump(mode="json")["train"]
    assert written["preference"]["beta"] == BETAS[method]
    assert written["learning_rate"] == default_learning_rate("dpo", "lora", method) < 1e-3
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config, "as it is read back from a manifest"
    given = run("dpo", learning_rate=0.25, preference={"method": method, "beta": 0.5})
    assert given.train.learning_rate == 0.25 and given.train.preference.beta == 0.5


def test_simpo_wants_half_its_beta_as_margin_and_cpo_learns_the_chosen_answer_too() -> None:
    assert (Preference(method="simpo").margin, Preference(method="simpo", beta=3).margin) == (1.0, 1.5)
    assert [Preference(method=method).chosen_loss_weight for method in ("cpo", "simpo", "dpo")] == [1.0, 0.0, None]


@pytest.mark.parametrize("task", ["dpo", "reward", "grpo"])
def test_full_fine_tuning_has_a_tenth_of_the_rate_of_an_adapter(task: Any) -> None:
    for method in METHODS:
        full, lora, qlora = (default_learning_rate(task, how, method) for how in ("full", "lora", "qlora"))
        assert lora == qlora == pytest.approx(10 * full)


def test_a_sweeps_trial_of_another_method_gets_that_ones_defaults() -> None:
    trial = with_values(run("dpo"), {"train.preference.method": "simpo", "train.method": "full"})
    assert trial.train.preference == Preference(method="simpo") and trial.train.learning_rate == 1e-6
    kept = with_values(run("dpo", learning_rate=0.5, preference={"beta": 0.7}), {"train.preference.method": "orpo"})
    assert kept.train.learning_rate == 0.5 and kept.train.preference.beta == 0.7, "what was given stays"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"method": "orpo", "loss": "ipo"}, "loss only with method dpo or cpo"),
    ({"method": "dpo", "margin": 1}, "margin only with method simpo"),
    ({"method": "kto", "chosen_loss_weight": 1}, "chosen_loss_weight only with method cpo or simpo"),
    ({"method": "cpo", "desirable_weight": 2, "undesirable_weight": 3}, "desirable_weight only with method kto; unde"),
    ({"method": "ppo"}, "'dpo', 'orpo', 'cpo', 'simpo' or 'kto'"),
    ({"beta": 0}, "greater than 0"),
]


@pytest.mark.parametrize(("section", "expected"), REFUSED)
def test_a_key_that_the_method_does_not_read_is_refused(section: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        run("dpo", preference=section)


def test_only_what_has_a_reference_forbids_an_adapter_that_changes_the_base() -> None:
    for method in METHODS:
        section: dict[str, Any] = {"lora": {"initialization": "pissa"}, "preference": {"method": method}}
        if method in ("dpo", "kto"):
            with pytest.raises(ValidationError, match="its reference is the model with the adapter off"):
                run("dpo", **section)
        else:
            assert run("dpo", **section).train.preference.method == method


def test_kto_needs_two_rows_at_a_time() -> None:
    with pytest.raises(ValidationError, match=r"train.batch_size of at least 2 for each process"):
        run("dpo", batch_size=1, preference={"method": "kto"})
    assert run("dpo", batch_size=2, preference={"method": "kto"}).least_rows == 2
    assert run("dpo", batch_size=1).least_rows == 1
