"""The best config as YAML and the page with its pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

from configs.errors import RefusedError
from configs.loader import load
from configs.run.config import RunConfig
from train.search.report import report, without_opening

pytestmark = pytest.mark.unit
SOURCE = """\
# tunegate sweep run.yaml
# yaml-language-server: $schema=configs/schema/run.json
# why this run exists
name: x
task: sequence-classification
base: {package: p}
data: {source: sentiment}
train: {max_steps: 4, learning_rate: 1.0e-3}  # short
sweep:
  parameters:
    train.learning_rate: {low: 1.0e-5, high: 1.0e-2}
    train.lora.rank: {choices: [4, 8]}
gate: gate.yaml
"""


@pytest.fixture
def source(checkout: Path) -> Path:
    (checkout / "gate.yaml").touch()
    (checkout / "sweep").mkdir()
    (checkout / "run.yaml").write_text(SOURCE)
    return Path("run.yaml")


def study_of(*losses: float | None) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(study_name="x")
    space: dict[str, Any] = {"train.learning_rate": optuna.distributions.FloatDistribution(1e-5, 1e-2)}
    space["train.lora.rank"] = optuna.distributions.CategoricalDistribution([4, 8])
    for number, loss in enumerate(losses):
        study.enqueue_trial({"train.learning_rate": 1e-3 + number * 1e-4, "train.lora.rank": 4 if number % 2 else 8})
        trial = study.ask(space)
        if loss is None:
            trial.set_user_attr("reason", "diverged at step 3")
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            trial.report(loss + 0.1, 2)
            study.tell(trial, loss)
    return study


def test_the_best_config_is_the_original_with_the_best_values_and_passes_check(source: Path) -> None:
    figures = report(study_of(0.5, 0.25, None, 0.75), source, ["train.batch_size=4", "data.max_rows=50"], Path("sweep"))
    assert {key: figures[key] for key in ("complete", "pruned", "failed", "best_trial", "best_validation_loss")} == {
        "complete": 3,
        "pruned": 0,
        "failed": 1,
        "best_trial": 1,
        "best_validation_loss": 0.25,
    }
    config = load(Path("sweep/best.yaml"), RunConfig)
    assert config.train.learning_rate == pytest.approx(1.1e-3) and config.train.lora.rank == 4 and config.train.batch_size == 4
    assert config.sweep is None and config.data.max_rows == 50 and config.name == "x"
    lines = Path("sweep/best.yaml").read_text().splitlines()
    assert lines[:2] == ["# tunegate run sweep/best.yaml", "# yaml-language-server: $schema=../configs/schema/run.json"]
    assert lines[2] == "# Trial 1 of run.yaml: validation loss 0.25, the lowest of 3 that ran to their end."
    assert "# why this run exists" in lines and any(line.endswith("# short") for line in lines), "comments of the original are kept"
    assert sum(line.startswith("# tunegate") for line in lines) == 1


def test_the_plot_is_one_page_without_outside_parts(source: Path) -> None:
    report(study_of(0.5, 0.25, 0.75, 0.3, 0.6), source, [], Path("sweep"))
    page = Path("sweep/plot.html").read_text()
    assert page.count("<svg") == 4 and "train.lora.rank" in page
    assert not any(part in page for part in ("<script", "src=", "<link", "<img"))


@pytest.mark.parametrize("losses", [(0.5,), (0.5, 0.5, 0.5)])
def test_a_plot_of_one_or_of_equal_values_leaves_out_what_they_cannot_say(source: Path, losses: tuple[float, ...]) -> None:
    report(study_of(*losses), source, [], Path("sweep"))
    assert Path("sweep/plot.html").read_text().count("<svg") == 2


def test_a_sweep_without_a_single_result_is_refused_with_the_reasons(source: Path) -> None:
    with pytest.raises(RefusedError, match="diverged at step 3"):
        report(study_of(None, None), source, [], Path("sweep"))
    assert not Path("sweep/best.yaml").exists() and "No trial ran" in Path("sweep/plot.html").read_text()


def test_only_the_opening_lines_are_taken_off() -> None:
    assert without_opening("# tunegate run a\n# yaml-language-server: b\n# c\n# tunegate run d\n") == "# c\n# tunegate run d\n"
    assert without_opening("") == ""
