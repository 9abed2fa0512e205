"""Which configs a merge request runs: by what changed, and never for documents alone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from configs.errors import ConfigError, InputError
from infra.gitlab.child_pipeline import (
    CODE,
    Run,
    changed_since,
    jobs_of,
    pipeline,
    read_runs,
    reproducible,
    touched,
    write,
)
from tests.paths import ROOT

pytestmark = pytest.mark.unit


def run_of(name: str, environment: str | None = None, gate: str = "configs/gates/own.yaml", *rows: str) -> Run:
    return Run(name, environment, frozenset({f"configs/finetune/{name}.yaml", gate, *rows}))


SMOKE = run_of("smoke", "sentiment", "configs/gates/smoke.yaml")
SENTIMENT = run_of("sentiment", "sentiment", "configs/gates/sentiment.yaml")
CALLS = [run_of("calls-v1", None, "configs/gates/calls.yaml"), run_of("calls-v2", None, "configs/gates/calls.yaml")]
TICKETS = run_of("tickets", "desk", "configs/gates/desk.yaml", "data/tickets/*.jsonl")
RUNS = [*CALLS, SENTIMENT, SMOKE, TICKETS]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (["docs/ci.md", "README.md", "CHANGELOG.md"], {}),
        (["configs/deploy/local.yaml", "releases/smoke@0123456789ab.dvc", "dvc.lock"], {}),
        (["configs/finetune/tickets.yaml"], {"tickets": "pin"}),
        (["configs/gates/calls.yaml"], {"calls-v1": "prove", "calls-v2": "prove"}),
        (["data/tickets/new.jsonl", "docs/ci.md"], {"tickets": "pin"}),
        (["train/finetune.py"], {"smoke": "prove"}),
        (["infra/gitlab/child.yml"], {"smoke": "prove"}),
        (["tests/train/test_finetune.py"], {}),
        (["train/finetune.py", "configs/finetune/smoke.yaml"], {"smoke": "pin"}),
        (["train/finetune.py", "configs/finetune/sentiment.yaml"], {"smoke": "prove", "sentiment": "pin"}),
        (
            ["configs/finetune/smoke.yaml", "configs/finetune/sentiment.yaml"],
            {"smoke": "choose", "sentiment": "choose"},
        ),
    ],
)
def test_a_change_runs_what_it_touches(changed: list[str], expected: dict[str, str]) -> None:
    assert {run.name: pin for run, pin in touched(changed, RUNS).items()} == expected


@given(
    st.lists(
        st.sampled_from(["docs/a.md", "train/a.py", *(path for run in RUNS for path in run.files if "*" not in path)])
    )
)
def test_whatever_changed_one_environment_is_pinned_by_one_config_at_most(changed: list[str]) -> None:
    pinned = [run.environment for run, pin in touched(changed, RUNS).items() if pin == "pin"]
    assert len(pinned) == len(set(pinned))
    assert None not in pinned
    assert {run.name for run in touched(changed, RUNS)} >= {run.name for run in RUNS if run.files & set(changed)}


def test_every_path_of_the_code_is_there() -> None:
    assert [pattern for pattern in CODE if not any(ROOT.glob(pattern))] == []


def test_a_config_of_the_pipeline_becomes_a_row_of_jobs() -> None:
    jobs = jobs_of(SMOKE, "pin", ["sentiment", "staging"])
    assert list(jobs) == ["train smoke", "evaluate smoke", "load smoke", "pin smoke"]
    assert {name: job["needs"] for name, job in jobs.items()} == {
        "train smoke": [],
        "evaluate smoke": ["train smoke"],
        "load smoke": ["train smoke", "evaluate smoke"],
        "pin smoke": ["train smoke", "evaluate smoke", "load smoke"],
    }
    assert {job["variables"]["CONFIG"] for job in jobs.values()} == {"smoke"}
    assert jobs["load smoke"]["variables"]["ENVIRONMENT"] == "sentiment"
    assert jobs["pin smoke"]["variables"]["ENVIRONMENTS"] == "sentiment staging"


def test_the_smoke_config_runs_on_a_small_machine_and_every_other_training_on_a_large_one() -> None:
    def machines(run: Run) -> list[str]:
        return [
            job["extends"][0]
            for name, job in jobs_of(run, "pin", ["x"]).items()
            if name.startswith(("train", "evaluate", "load"))
        ]

    assert machines(SMOKE) == [".small"] * 3
    assert machines(SENTIMENT) == [".large"] * 3


@pytest.mark.parametrize(("pin", "template"), [("pin", ".pin"), ("choose", ".pin by hand"), ("prove", None)])
def test_who_pins(pin: str, template: str | None) -> None:
    jobs = jobs_of(SENTIMENT, pin, ["sentiment"])  # type: ignore[arg-type]
    assert (jobs["pin sentiment"]["extends"][1] if "pin sentiment" in jobs else None) == template


def test_a_config_that_names_no_environment_is_judged_only() -> None:
    assert list(jobs_of(CALLS[0], "prove", [])) == ["train calls-v1", "evaluate calls-v1"]


def test_staging_goes_before_production_and_before_nothing_else() -> None:
    found = pipeline({SMOKE: "pin", TICKETS: "pin"}, "sentiment", "staging")
    assert found["pin smoke"]["variables"]["ENVIRONMENTS"] == "sentiment staging"
    assert found["pin tickets"]["variables"]["ENVIRONMENTS"] == "desk"


def test_no_config_is_a_pipeline_with_one_job_that_does_nothing() -> None:
    assert list(pipeline({}, "sentiment", "staging")) == ["include", "nothing changed"]


def test_what_is_left_out_of_the_pipeline_is_said_and_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(reproducible({SMOKE: "pin", TICKETS: "pin"}, ["smoke"])) == [SMOKE]
    assert "tickets: not in the pipeline" in capsys.readouterr().err


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    found = pipeline({SMOKE: "pin"}, "sentiment", "staging")
    write(tmp_path / "deep/children.yml", found)
    text = (tmp_path / "deep/children.yml").read_text(encoding="utf8")
    assert YAML(typ="safe").load(text) == found
    assert "&id" not in text, "plain for the reader: no anchors"


# The checkout


def test_the_shipped_configs_are_read_with_their_gates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = {run.name: run for run in read_runs()}
    assert found["smoke"] == Run("smoke", None, frozenset({"configs/finetune/smoke.yaml", "configs/gates/smoke.yaml"}))
    assert found["sentiment"].environment == "sentiment" and "configs/gates/sentiment.yaml" in found["sentiment"].files


def test_the_shipped_configs_are_all_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = read_runs()
    assert len(found) == len(list((ROOT / "configs/finetune").glob("*.yaml")))


@pytest.mark.parametrize(
    "changed",
    [
        *("own/model.safetensors", "own/sub/tokenizer.json", "schema.json"),
        *("rows.jsonl", "rows[1].jsonl", "more/one.jsonl", "more/sub/gone.jsonl"),
    ],
)
def test_weights_rows_and_schemas_that_a_run_names_are_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own").mkdir()
    Path("more").mkdir()
    for name in ("rows.jsonl", "rows[1].jsonl", "more/one.jsonl", "schema.json", "gate.yml"):
        Path(name).write_text("{}")
    Path("own.yaml").write_text(
        "name: own\ntask: causal-lm\nbase: {path: own}\n"
        "data: {source: files, files: [rows.jsonl, 'rows[1].jsonl', 'more/**/*.jsonl']}\n"
        "train: {max_steps: 3}\nevaluate: {json_schema: schema.json}\ngate: gate.yml\n"
    )
    assert [run.name for run in touched([changed], read_runs(Path()))] == ["own"]
    assert not touched(["other/model.safetensors"], read_runs(Path()))


def test_a_config_that_is_wrong_ends_the_plan(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("name: x\n", encoding="utf8")
    with pytest.raises(ConfigError):
        read_runs(tmp_path)


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A checkout whose last commit adds, edits, renames and deletes; the commit before."""
    monkeypatch.chdir(tmp_path)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)

    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgsign=false", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init", "-q")
    for name in ("edited", "old name", "deleted", "kept"):
        Path(name).write_text(name * 20)
    git("add", ".")
    git("commit", "-qm", "before")
    Path("edited").write_text("anew")
    Path("old name").rename("new name ü")
    Path("deleted").unlink()
    git("add", "-A")
    git("commit", "-qm", "after")
    return git("rev-parse", "HEAD~1")


def test_every_path_of_the_change_is_named_as_it_is(history: str) -> None:
    assert sorted(changed_since(history)) == ["deleted", "edited", "new name ü", "old name"]


@pytest.mark.parametrize("base", ["0" * 40, "nowhere", "--output=x"])
def test_a_base_that_git_does_not_know_is_an_input_error(history: str, base: str) -> None:
    with pytest.raises(InputError, match="git does not know"):
        changed_since(base)
