"""The pipeline's pages: GitLab's own schema, the seams between jobs, and what gitlab-ci-local cannot show (docs/ci.md
lists it)."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.gitlab.child_pipeline import CODE, Run, pipeline, write
from infra.gitlab.publish import PIN, TRAIN
from tests.paths import ROOT
from tests.support.gitlab_pages import CHILD, DEPLOYS, MAIN, PAGES, all_jobs, child_jobs, conditions, jobs, page, read

pytestmark = pytest.mark.unit
# What each command reads of the folders that an earlier job wrote.
READS = {
    "loadtest": {"release"},
    "pin": {"release", "eval", "gate", "dvc.lock"},
}
SECRET = ("TUNEGATE_GITLAB_TOKEN", "TUNEGATE_SIGNING_KEY")
# Of the command line, those that use a secret, and so run the default branch's code alone.
TRUSTED = {"publish", "report", "deploy", "rollback", "stop"}


def lines() -> Iterator[tuple[str, str]]:
    """(job, script line) of every job, the common `before_script` first."""
    yield from (("default", line) for line in page(MAIN)["default"]["before_script"])
    for name, job in all_jobs().items():
        yield from ((name, line) for line in job.get("script", []))


def filled(line: str) -> str:
    values = {
        "CONFIG": "smoke",
        "ENVIRONMENTS": "sentiment staging",
        "ENVIRONMENT": "sentiment",
        "STAGING": "staging",
        "PRODUCTION": "sentiment",
    }
    for name, value in values.items():
        line = line.replace(f"${name}", value)
    return line


def command_of(line: str) -> str | None:
    words = shlex.split(line)
    if words[0] != ".venv/bin/tunegate":
        return None
    return words[2] if words[1] in ("releases", "gitlab") else words[1]


# What it is made of


@pytest.mark.parametrize("path", [*PAGES, "child"], ids=lambda path: path if isinstance(path, str) else path.name)
def test_every_page_is_valid_by_gitlabs_own_schema(path: Path | str, tmp_path: Path) -> None:
    if path == "child":
        path = tmp_path / "children.yml"
        write(
            path,
            pipeline(
                {Run("smoke", "sentiment", frozenset()): "pin", Run("calls-v1", None, frozenset()): "prove"},
                "sentiment",
                "staging",
            ),
        )
    checker = [str(ROOT / ".venv/bin/check-jsonschema"), "--builtin-schema", "vendor.gitlab-ci", str(path)]
    run = subprocess.run(checker, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_page_is_included_once_and_is_here() -> None:
    included = [one["local"] for one in read(MAIN)["include"]]
    assert {*included, CHILD} == {path.relative_to(ROOT).as_posix() for path in PAGES if path.name != MAIN}
    assert pipeline({}, "", "")["include"] == [{"local": CHILD}]


@pytest.mark.parametrize("path", [MAIN, CHILD])
def test_stages_stand_in_order_and_each_has_a_job(path: str) -> None:
    found = page(path)
    used = [job["stage"] for job in (jobs(found) if path == MAIN else child_jobs()).values()]
    assert set(used) == set(found["stages"])


def test_script_lines_are_commands_that_people_run_and_no_shell_programs() -> None:
    found = list(lines())
    assert len(found) > 20
    for job, line in found:
        assert line.startswith(("make ", ".venv/bin/tunegate ")), (job, line)
        assert not set("|&;<>`(){}\n") & set(line), (job, line)


def test_every_tunegate_line_is_understood_by_the_command_line() -> None:
    import typer

    from tunegate import app

    group: Any = typer.main.get_command(app)
    for _, line in lines():
        words = shlex.split(filled(line))
        assert "$" not in filled(line), line
        if words[0] != ".venv/bin/tunegate" or words[1] == "--version":
            continue
        command, arguments = group.commands[words[1]], words[2:]
        if words[1] in ("releases", "gitlab"):
            command, arguments = command.commands[words[2]], words[3:]
        context = command.make_context(
            command.name, arguments, resilient_parsing=True
        )  # what the environment gives is not here
        assert not context.args, f"{line}: {context.args} left over"
        known = {name for one in command.params for name in one.opts}
        assert {word for word in arguments if word.startswith("--")} <= known, line


def test_make_targets_exist() -> None:
    targets = {
        line.split(":")[0] for line in (ROOT / "Makefile").read_text(encoding="utf8").splitlines() if ":" in line
    }
    assert {line.split()[1] for _, line in lines() if line.startswith("make ")} <= targets


def test_a_config_is_named_for_its_file_so_that_one_variable_names_both() -> None:
    paths = sorted((ROOT / "configs/finetune").glob("*.yaml"))
    assert paths
    assert [yaml.safe_load(path.read_text(encoding="utf8"))["name"] for path in paths] == [path.stem for path in paths]


def test_the_environments_that_the_pipeline_names_are_here() -> None:
    variables = page(MAIN)["variables"]
    for name in ("PRODUCTION", "STAGING"):
        config = yaml.safe_load((ROOT / f"configs/deploy/{variables[name]}.yaml").read_text(encoding="utf8"))
        assert variables[f"{name}_URL"] == f"http://127.0.0.1:{config['router']['port']}"
        assert (
            config["model"]
            == yaml.safe_load((ROOT / f"configs/deploy/{variables['PRODUCTION']}.yaml").read_text(encoding="utf8"))[
                "model"
            ]
        )


# The merge request


def test_each_job_gets_the_folders_it_reads_from_the_jobs_it_needs() -> None:
    found, read_at_all = child_jobs(), set()
    for name, job in found.items():
        have = {
            Path(path).name
            for need in job.get("needs", [])
            for path in found[need].get("artifacts", {}).get("paths", [])
        }
        for line in job["script"]:
            wanted = READS.get(command_of(line) or "", set())
            assert wanted <= have, (name, line)
            read_at_all |= wanted
    assert read_at_all == set().union(*READS.values())


def test_each_stage_of_dvc_yaml_finds_what_the_one_before_made_in_the_artifacts() -> None:
    carried = {path for name in ("train smoke", "evaluate smoke") for path in child_jobs()[name]["artifacts"]["paths"]}
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf8"))["stages"]
    del stages["inputs"]  # made anew in each job
    outs = {out.replace("${item.config}", "$CONFIG") for stage in stages.values() for out in stage["outs"]}
    assert outs | {"dvc.lock"} <= carried


def test_a_failed_gate_still_shows_its_report_in_the_merge_request() -> None:
    found = child_jobs()
    artifacts = found["evaluate smoke"]["artifacts"]
    assert artifacts["when"] == "always"
    assert artifacts["reports"] == {
        "junit": "build/$CONFIG/gate/junit.xml",
        "metrics": "build/$CONFIG/gate/metrics.txt",
    }


def test_a_failing_gate_is_before_every_pin_and_the_child_decides_over_its_parent() -> None:
    found = child_jobs()
    for name, job in found.items():
        if name.startswith("pin "):
            assert {f"evaluate {name[4:]}", f"load {name[4:]}"} <= set(job["needs"])
            assert all(rule.get("when", "on_success") in ("on_success", "manual") for rule in job["rules"])
    assert not any(job.get("allow_failure") for name, job in found.items() if not name.startswith("pin "))
    assert jobs(page(MAIN))["tune"]["trigger"]["strategy"] == "depend"


def test_the_child_is_what_the_plan_wrote_and_takes_the_pipelines_variables_along() -> None:
    found = jobs(page(MAIN))
    trigger = found["tune"]["trigger"]
    assert trigger["include"] == [{"artifact": "build/children.yml", "job": "children"}]
    assert trigger["forward"] == {"pipeline_variables": True}
    assert found["children"]["artifacts"]["paths"] == ["build/children.yml"]
    assert found["children"]["variables"]["GIT_DEPTH"] == "0"
    assert page(CHILD)["workflow"]["rules"] == [{"if": '$CI_PIPELINE_SOURCE == "parent_pipeline"'}]


def matches(path: str, pattern: str) -> bool:
    """As Ruby's File.fnmatch with FNM_PATHNAME and FNM_EXTGLOB, for the patterns that are used here."""
    found = re.search(r"\{([^}]*)\}", pattern)
    if found:
        return any(matches(path, pattern.replace(found[0], choice)) for choice in found[1].split(","))
    expression = "".join(
        "(?:.*/)?" if part == "**/" else "[^/]*" if part == "*" else re.escape(part)
        for part in re.split(r"(\*\*/|\*)", pattern)
    )
    return re.fullmatch(expression, path) is not None


def test_a_change_of_documents_alone_starts_no_child_and_any_other_that_counts_does() -> None:
    (rule,) = jobs(page(MAIN))["tune"]["rules"]
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    tracked = [path for path in tracked if "/old_world/" not in path]  # holds rows too, and never changes
    started = {path for path in tracked if any(matches(path, pattern) for pattern in rule["changes"])}
    counted = {
        path
        for path in tracked
        if any(fnmatchcase(path, pattern) for pattern in (*CODE, "configs/finetune/*", "configs/gates/*"))
    }
    assert counted and counted <= started
    assert not [
        path
        for path in started
        if path.startswith(("docs/", "releases/", "configs/deploy/", "tests/", "LICENSE")) or path.endswith(".md")
    ]
    assert jobs(page(MAIN))["children"]["rules"] == jobs(page(MAIN))["tune"]["rules"]
    assert matches("data/mine/rows.jsonl", rule["changes"][-1]) and matches("rows.csv", rule["changes"][-1])


def test_what_is_published_after_the_merge_is_in_the_artifacts_of_the_jobs_that_it_is_taken_from() -> None:
    found = child_jobs()
    kept = {name: found[f"{name} smoke"]["artifacts"] for name in (TRAIN, PIN)}
    assert {"build/$CONFIG/release", "build/$CONFIG/data", "build/$CONFIG/trained"} <= set(kept[TRAIN]["paths"])
    assert kept[PIN]["paths"] == ["releases/"]
    assert kept[PIN]["exclude"] == ["releases/*@*/release/**/*"], "the train job has it"
    assert {one["expire_in"] for one in kept.values()} == {"4 weeks"}, "until the merge"


# Secrets


def test_no_secret_is_written_in_the_pages() -> None:
    for path in PAGES:
        text = path.read_text(encoding="utf8")
        assert not re.search(r"(?i)(glpat-|AKIA[0-9A-Z]{16}|(password|secret|token|key): *['\"]?[\w/+-]{12,})", text), (
            path
        )


def is_default_branch(condition: str) -> bool:
    """GitLab runs a pipeline of these with the default branch's own pages and code."""
    return "$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH" in condition or condition == '$CI_PIPELINE_SOURCE == "schedule"'


def test_what_uses_a_secret_runs_the_default_branchs_code_alone() -> None:
    found = all_jobs()
    trusted = {name for name, job in found.items() for line in job.get("script", []) if command_of(line) in TRUSTED}
    assert {name.split()[0] for name in trusted} >= {"publish", "report", "staging", "production", "rollback", "stop"}
    for name in trusted:
        assert conditions(found[name]) and all(map(is_default_branch, conditions(found[name]))), name
    assert set(DEPLOYS) <= trusted
    for name, job in child_jobs().items():
        assert not any(command_of(line) in TRUSTED for line in job["script"]), name


def test_no_job_of_a_merge_request_asks_for_a_secret() -> None:
    """A variable that a job names, its rules or its script, is one that it would want to be given there."""
    for name, job in (jobs(page(MAIN)) | child_jobs()).items():
        if not (job.get("rules") and all(map(is_default_branch, conditions(job)))):
            assert not any(secret in str(job) for secret in SECRET), name


def test_a_forks_merge_request_pins_nothing() -> None:
    pins = [job for name, job in child_jobs().items() if name.startswith("pin ")]
    assert pins
    for job in pins:
        assert conditions(job) == ["$CI_MERGE_REQUEST_SOURCE_PROJECT_ID == $CI_PROJECT_ID"]


def test_nothing_serves_before_it_is_published() -> None:
    found, stages = jobs(page(MAIN)), page(MAIN)["stages"]
    assert stages.index("publish") < stages.index(found["staging"]["stage"]) and "needs" not in found["staging"]
    assert {"job": "publish", "optional": True} in found["production"]["needs"]
    (rule,) = found["publish"]["rules"]
    assert set(rule["changes"]) == {"configs/deploy/*.yaml", "releases/*.dvc"}


def test_tokens_come_from_the_project_and_no_job_mints_one() -> None:
    assert not any(name in page(path).get("variables", {}) for path in (MAIN, CHILD) for name in SECRET)
    assert not any("id_tokens" in job for job in all_jobs().values()), "nothing here signs by an identity"
