"""Which gate an environment's releases must pass, and where that is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import eval.commands
import tunegate
from configs.check import check_files, refuse_gate
from configs.errors import InputError
from configs.read import read_environment, read_run, release_gate_of
from tests.paths import ROOT

pytestmark = pytest.mark.unit
RULES = "rules:\n  - {rule: threshold, metric: %s, minimum: 0.5}\n"
RUN = """name: own
task: sequence-classification
base: {path: weights}
data: {source: files, files: [rows.jsonl], labels: [a, b]}
train: {max_steps: 3}
gate: own.yaml
production: live
"""


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("configs/deploy").mkdir(parents=True)
    Path("weights").mkdir()
    for name, text in {
        "rows.jsonl": "{}\n",
        "own.yaml": RULES % "accuracy",
        "strict.yaml": RULES % "exact_match",
    }.items():
        Path(name).write_text(text)


def environment(name: str, more: str) -> None:
    Path(f"configs/deploy/{name}.yaml").write_text(f"name: {name}\nmodel: m\ngate: null\n{more}\n")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("release_gate: nowhere.yaml", "a file or folder that exists"),
        ("release_gate: own.yaml\nstaging_for: other", "release_gate or staging_for"),
        ("staging_for: live", "staging_for another environment"),
    ],
)
def test_what_cannot_be_said_of_an_environments_gate(more: str, words: str) -> None:
    environment("live", more)
    with pytest.raises(InputError, match=words):
        read_environment("live")


def test_the_gate_of_staging_is_that_of_the_environment_it_goes_before() -> None:
    environment("live", "release_gate: strict.yaml")
    environment("before", "staging_for: live")
    assert [release_gate_of(name) for name in ("live", "before", "gone", None)] == ["strict.yaml"] * 2 + [None] * 2


def test_a_run_is_checked_against_the_gate_that_will_judge_it() -> None:
    """Before any training: that gate asks for a metric of texts, the run is a classifier."""
    environment("live", "release_gate: strict.yaml")
    Path("run.yaml").write_text(RUN)
    (problem,) = check_files([Path("run.yaml")], [])
    assert problem.file.endswith("strict.yaml") and "run own" in problem.expected
    environment("live", "release_gate: own.yaml")
    assert check_files([Path("run.yaml")], []) == []


def test_an_environment_named_on_the_command_line_is_asked_for_its_gate_too() -> None:
    """The run's own takes it; the one that it is to be judged for does not."""
    environment("live", "release_gate: own.yaml")
    environment("other", "release_gate: strict.yaml")
    environment("before", "staging_for: other")
    Path("run.yaml").write_text(RUN)
    run = read_run(Path("run.yaml"), None)
    refuse_gate(run, Path("run.yaml"))
    refuse_gate(run, Path("run.yaml"), "live")
    for named in ("other", "before", "configs/deploy/other.yaml"):
        with pytest.raises(InputError, match=r"strict\.yaml.*exact_match") as caught:
            refuse_gate(run, Path("run.yaml"), named)
        assert caught.value.hint == f"tunegate check run.yaml --set production={named}"
    with pytest.raises(InputError, match="nowhere"):
        refuse_gate(run, Path("run.yaml"), "nowhere")


@pytest.mark.parametrize("command", ["run", "evaluate", "gate"])
def test_it_is_asked_before_anything_is_trained_measured_or_judged(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment("other", "release_gate: strict.yaml")
    Path("run.yaml").write_text(RUN)
    begun: list[object] = []
    for module in (tunegate, eval.commands):
        for stage in ("run_prepare", "run_train", "run_evaluate", "run_gate"):
            monkeypatch.setattr(module, stage, lambda *facts: begun.append(facts), raising=False)
    result = CliRunner().invoke(tunegate.app, [command, "run.yaml", "--production", "other"])
    assert isinstance(result.exception, InputError) and "exact_match" in str(result.exception) and begun == []


@pytest.mark.parametrize("path", sorted((ROOT / "configs/finetune").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_run_that_is_meant_for_an_environment_has_its_gate(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    run = read_run(path, None)
    assert run.production is None or release_gate_of(run.production) == run.gate
