"""The pipeline's own commands, through the front door: child pipeline, note, pin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner, Result

from configs.errors import ConfigError, InputError
from infra.commands.gitlab import Stage
from infra.dvc.reproduce import STAGES
from infra.gitlab import child_pipeline, pin
from infra.gitlab.pin import Branch
from tests.paths import ROOT
from tests.support.gitlab_server import gitlab_server
from tests.support.gitlab_world import TOKEN, World
from tunegate import app

pytestmark = pytest.mark.unit
SHA = "a91957a858320c0e17f3a0eca7cfacbff50ea29a"


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env=environment, catch_exceptions=True)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A job of a merge request's pipeline, in a folder that has the smoke config and its gate's report."""
    for name in ("configs/finetune/smoke.yaml", "configs/gates/smoke.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf8"), encoding="utf8")
    with (tmp_path / "configs/finetune/smoke.yaml").open("a", encoding="utf8") as stream:
        stream.write("production: sentiment\n")
    monkeypatch.chdir(tmp_path)
    report = tmp_path / "build/smoke/gate/report.md"
    report.parent.mkdir(parents=True)
    report.write_text("# Gate: fail\n", encoding="utf8")
    with gitlab_server() as found:
        job = {
            "CI_SERVER_URL": found.url,
            "CI_PROJECT_ID": "35",
            "TUNEGATE_GITLAB_TOKEN": TOKEN,
            "CI_MERGE_REQUEST_IID": "1",
            "CI_COMMIT_SHA": SHA,
        }
        for name, value in (
            job
            | {
                "CI_JOB_URL": "https://gitlab.example.com/-/jobs/5",
                "CI_PIPELINE_URL": "https://gitlab.example.com/-/pipelines/4",
            }
        ).items():
            monkeypatch.setenv(name, value)
        yield found


def test_the_note_has_the_report_the_commit_and_the_job_and_is_one(world: World) -> None:
    for text in ("# Gate: fail\n", "# Gate: pass\n"):
        Path("build/smoke/gate/report.md").write_text(text, encoding="utf8")
        assert run("gitlab", "note", "configs/finetune/smoke.yaml").exit_code == 0
    (note,) = world.notes[1]
    assert note["body"].startswith("<!-- tunegate:gate smoke -->\n# Gate: pass\n")
    assert "`smoke` · commit a91957a85832 · [job](https://gitlab.example.com/-/jobs/5)" in note["body"]


def test_without_a_report_there_is_no_note(world: World) -> None:
    Path("build/smoke/gate/report.md").unlink()
    found = run("gitlab", "note", "configs/finetune/smoke.yaml")
    assert isinstance(found.exception, InputError) and "tunegate gate configs/finetune/smoke.yaml" in str(
        found.exception
    )
    assert world.requests == []


def test_without_a_token_the_note_says_what_is_missing(world: World) -> None:
    found = run("gitlab", "note", "configs/finetune/smoke.yaml", TUNEGATE_GITLAB_TOKEN="")
    assert isinstance(found.exception, InputError) and "TUNEGATE_GITLAB_TOKEN" in str(found.exception)


def test_what_was_pinned_gets_the_status_that_its_missing_pipeline_would_give(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(Branch, "from_environment", lambda: "the branch")
    monkeypatch.setattr(pin, "pin_release", lambda *given: asked.append(given) or SHA)
    found = run("gitlab", "pin", "configs/finetune/smoke.yaml", "sentiment", "staging")
    assert (found.exit_code, found.output) == (0, f"pushed {SHA}\n")
    assert asked == [("smoke", ["sentiment", "staging"], "the branch")]
    (status,) = world.statuses
    facts = {
        "sha": SHA,
        "name": "tunegate/smoke",
        "status": "success",
        "target_url": "https://gitlab.example.com/-/pipelines/4",
    }
    assert status.items() >= facts.items()


def test_a_pin_that_changes_nothing_says_so_and_sets_no_status(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Branch, "from_environment", lambda: "the branch")
    monkeypatch.setattr(pin, "pin_release", lambda *given: None)
    assert "nothing to pin" in run("gitlab", "pin", "configs/finetune/smoke.yaml", "sentiment").output
    assert world.requests == []


@pytest.mark.parametrize(
    ("changed", "job"), [(["docs/ci.md"], "nothing changed"), (["configs/finetune/smoke.yaml"], "pin smoke")]
)
def test_the_child_pipeline_is_written_from_what_changed(
    world: World, monkeypatch: pytest.MonkeyPatch, changed: list[str], job: str
) -> None:
    monkeypatch.setattr(child_pipeline, "changed_since", lambda base: changed if base == "before" else [])
    found = run(
        "gitlab", "children", CI_MERGE_REQUEST_DIFF_BASE_SHA="before", PRODUCTION="sentiment", STAGING="staging"
    )
    assert found.exit_code == 0, found.output
    pipeline = YAML(typ="safe").load(Path("build/children.yml").read_text(encoding="utf8"))
    assert job in pipeline
    if job == "pin smoke":
        assert pipeline[job]["variables"]["ENVIRONMENTS"] == "sentiment staging"


def test_another_system_gets_the_configs_on_one_line(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_pipeline, "changed_since", lambda base: ["train/finetune.py"])
    found = run("gitlab", "children", "--base", "before", "--json")
    assert found.output == '[{"name": "smoke", "environment": "sentiment", "pin": "prove"}]\n'


def test_repro_knows_every_stage() -> None:
    assert get_args(Stage) == STAGES


@pytest.mark.parametrize("until", ["evaluate", "gate"])
def test_repro_refuses_a_gate_that_could_never_decide_before_it_trains(world: World, until: str) -> None:
    with Path("configs/gates/smoke.yaml").open("a", encoding="utf8") as stream:
        stream.write("  - {rule: threshold, metric: exact_match, minimum: 0.5}\n")
    found = run("repro", "configs/finetune/smoke.yaml", "--until", until)
    assert isinstance(found.exception, ConfigError) and "exact_match" in str(found.exception)
    assert "tunegate check configs/finetune/smoke.yaml" in str(found.exception)
