"""The pages of the default branch and of schedules, and what every job asks of a runner."""

from __future__ import annotations

import pytest

from tests.paths import ROOT
from tests.support.gitlab_pages import DEPLOYS, MAIN, all_jobs, child_jobs, conditions, jobs, page

pytestmark = pytest.mark.unit

# The default branch


@pytest.mark.parametrize("name", DEPLOYS)
def test_traffic_moves_only_on_the_default_branch_one_job_at_a_time(name: str) -> None:
    job = jobs(page(MAIN))[name]
    staged = "staging" in name
    group = None if name == "rollback" else "$STAGING" if staged else "production"
    assert job.get("resource_group") == group, "a rollback overtakes a deploy that is under way"
    assert job["environment"]["name"] == ("$STAGING" if staged else "$PRODUCTION")
    assert job["interruptible"] is False
    assert job["tags"] == ["$SERVE_RUNNER_TAG"]
    assert all(
        '$CI_PIPELINE_SOURCE != "schedule" && $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH' in condition
        for condition in conditions(job)
    )


def test_production_comes_after_a_load_test_in_staging() -> None:
    found = jobs(page(MAIN))
    assert found["load staging"]["needs"] == ["staging"]
    assert [need["job"] for need in found["production"]["needs"]] == ["publish", "load staging"]
    order = page(MAIN)["stages"]
    assert [order.index(found[name]["stage"]) for name in ("staging", "load staging", "production")] == [4, 5, 6]


def test_production_is_by_hand_until_the_project_says_automatic() -> None:
    freeze, automatic, by_hand = jobs(page(MAIN))["production"]["rules"]
    assert freeze == {"if": "$CI_DEPLOY_FREEZE", "when": "never"}
    assert automatic["if"].endswith('&& $PRODUCTION_DEPLOY == "automatic"') and "when" not in automatic
    assert (by_hand["when"], by_hand["allow_failure"]) == ("manual", False)
    assert page(MAIN)["variables"]["PRODUCTION_DEPLOY"] == "manual"


def test_only_a_changed_pin_is_deployed() -> None:
    found = jobs(page(MAIN))
    assert {tuple(rule["changes"]) for name in ("staging", "load staging") for rule in found[name]["rules"][1:]} == {
        ("configs/deploy/$STAGING.yaml",)
    }
    assert {tuple(rule["changes"]) for rule in found["production"]["rules"][1:]} == {
        ("configs/deploy/$PRODUCTION.yaml",)
    }
    assert {"job": "load staging", "optional": True} in found["production"]["needs"], (
        "a rollback's commit changes production alone"
    )


def test_in_a_freeze_nothing_is_deployed_and_a_rollback_is_still_possible() -> None:
    found = jobs(page(MAIN))
    for name in ("staging", "load staging", "production"):
        assert found[name]["rules"][0] == {"if": "$CI_DEPLOY_FREEZE", "when": "never"}
    assert [rule["when"] for rule in found["rollback"]["rules"]] == ["manual"]
    assert found["rollback"]["needs"] == []


def test_environments_have_a_url_a_tier_and_a_job_that_stops_them() -> None:
    found = jobs(page(MAIN))
    for name, variable in (("staging", "STAGING"), ("production", "PRODUCTION")):
        environment = found[name]["environment"]
        assert environment == {
            "name": f"${variable}",
            "url": f"${variable}_URL",
            "deployment_tier": name,
            "on_stop": f"stop {name}",
        }
        stop = found[f"stop {name}"]
        assert stop["environment"] == {"name": f"${variable}", "action": "stop"}
        assert [rule["when"] for rule in stop["rules"]] == ["manual"]


def test_a_schedule_asks_whether_what_runs_is_what_git_says_and_reports_to_merge_requests() -> None:
    found = jobs(page(MAIN))
    scheduled = {name: job for name, job in found.items() if job.get("stage") == "verify"}
    assert {name: job["script"] for name, job in scheduled.items()} == {
        "verify staging": [".venv/bin/tunegate status $STAGING --check"],
        "verify production": [".venv/bin/tunegate status $PRODUCTION --check"],
        "report": [".venv/bin/tunegate gitlab report"],
    }
    assert all(scheduled[name]["environment"]["action"] == "verify" for name in scheduled if name != "report")
    for name, job in found.items():
        own = [condition for condition in conditions(job) if condition == '$CI_PIPELINE_SOURCE == "schedule"']
        other = [
            condition
            for condition in conditions(job)
            if "merge_request_event" in condition or '!= "schedule"' in condition
        ]
        assert (len(own), len(other)) == ((1, 0) if name in scheduled else (0, len(conditions(job)))), name


# Runners


def test_only_a_runners_own_failure_is_tried_again() -> None:
    retry = page(MAIN)["default"]["retry"]
    assert set(retry["when"]) == {"runner_system_failure", "scheduler_failure", "api_failure"}
    assert not any("retry" in job for job in all_jobs().values())


def test_a_newer_push_ends_what_is_under_way_except_what_writes_or_serves() -> None:
    assert page(MAIN)["workflow"]["auto_cancel"] == {"on_new_commit": "interruptible"}
    assert page(MAIN)["default"]["interruptible"] is True
    lasting = {name.split()[0] for name, job in all_jobs().items() if job.get("interruptible") is False}
    assert lasting == {"pin", "publish", "staging", "load", "production", "rollback", "stop"}
    assert "interruptible" not in child_jobs()["load smoke"]


def test_a_large_machine_trains_one_config_at_a_time_and_the_smoke_config_needs_none() -> None:
    found = child_jobs()
    for name in ("train calls-v1", "evaluate calls-v1"):
        assert (found[name]["tags"], found[name]["resource_group"]) == (["$RUNNER_TAG"], "$RUNNER_TAG")
        assert found[name]["variables"]["ACCELERATOR"] == "$LARGE_ACCELERATOR"
    for name in ("train smoke", "evaluate smoke", "load smoke"):
        assert found[name]["tags"] == ["$CPU_RUNNER_TAG"]
        assert "resource_group" not in found[name] and "ACCELERATOR" not in found[name]["variables"]


def test_the_gpu_path_is_a_matter_of_variables() -> None:
    assert page(MAIN)["default"]["image"] == "$IMAGE"
    assert {"RUNNER_TAG", "CPU_RUNNER_TAG", "SERVE_RUNNER_TAG", "LARGE_ACCELERATOR", "IMAGE"} <= page(MAIN)[
        "variables"
    ].keys()
    assert page(MAIN)["variables"]["ACCELERATOR"] == "cpu", (
        "check and test want the CPU locks, wherever the training runs"
    )
    assert jobs(page(MAIN))["tune"]["inherit"] == {"variables": False}, (
        "else this cpu would win over what the child's jobs say"
    )
    assert {jobs(page(MAIN))[name]["variables"]["ACCELERATOR"] for name in DEPLOYS} == {"$LARGE_ACCELERATOR"}
    assert page(MAIN)["default"]["cache"]["key"]["prefix"] == "$ACCELERATOR"


def test_artifacts_expire_and_environments_are_cached_by_their_locks() -> None:
    kept = {job["artifacts"]["expire_in"] for job in all_jobs().values() if "artifacts" in job}
    assert kept == {"1 week", "4 weeks"}
    cache = page(MAIN)["default"]["cache"]
    assert cache["key"]["files"] == ["requirements/train.txt", "requirements/serve.txt"]
    assert all((ROOT / name).exists() for name in cache["key"]["files"])


def test_one_pin_of_a_merge_request_at_a_time() -> None:
    assert {job["resource_group"] for name, job in child_jobs().items() if name.startswith("pin ")} == {
        "pin-$CI_MERGE_REQUEST_IID"
    }
