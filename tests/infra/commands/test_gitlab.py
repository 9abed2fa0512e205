"""The pipeline's own commands, through the front door: child pipeline, pin, publish, report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner, Result

from configs.errors import ConfigError, InputError
from infra.commands.gitlab import Stage
from infra.dvc import publish
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


@pytest.mark.parametrize("command", ["report", "publish"])
def test_without_a_token_a_job_after_the_merge_says_what_is_missing(world: World, command: str) -> None:
    environment = Path("configs/deploy/sentiment.yaml")
    environment.parent.mkdir(parents=True)
    environment.write_text(f"release: demo@sha256:{'a' * 64}\n", encoding="utf8")
    found = run("gitlab", command, TUNEGATE_GITLAB_TOKEN="")
    assert isinstance(found.exception, InputError) and world.requests == []
    if command == "report":
        assert "TUNEGATE_GITLAB_TOKEN" in str(found.exception)


def test_reports_of_open_merge_requests_are_kept_as_notes(world: World) -> None:
    assert run("gitlab", "report").output == "no open merge request has a report\n"
    world.add_merge_request(source_branch="tune", target_branch="main", sha="a" * 40)
    child = world.add_pipeline("a" * 40, parent=world.add_pipeline("a" * 40, merge_request=1))
    world.add_job(child, "evaluate smoke", {"build/smoke/gate/report.md": b"# Gate: pass\n"})
    assert run("gitlab", "report").output == "!1: the note of smoke stands\n"


def test_where_nothing_is_pinned_nothing_is_published(world: World) -> None:
    assert run("gitlab", "publish").output == "no environment pins a release\n" and world.requests == []


@pytest.mark.parametrize(("commit", "said"), [(SHA, f"pushed {SHA}\n"), (None, "nothing to pin: ")])
def test_a_pin_says_what_it_pushed_and_writes_to_no_merge_request(
    world: World, monkeypatch: pytest.MonkeyPatch, commit: str | None, said: str
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(Branch, "from_environment", lambda: "the branch")
    monkeypatch.setattr(publish, "prepare_pin", lambda paths, by, facts: asked.append((paths.root.name, facts)))
    monkeypatch.setattr(pin, "pin_release", lambda *given: asked.append(given) or commit)
    found = run("gitlab", "pin", "configs/finetune/smoke.yaml", "sentiment", "staging", "--pipeline", "7")
    assert found.exit_code == 0 and found.output.startswith(said)
    assert asked == [("smoke", {"pipeline": 7}), ("smoke", ["sentiment", "staging"], "the branch")]
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
