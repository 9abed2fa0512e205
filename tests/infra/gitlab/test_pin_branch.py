"""Which branch is pushed to, as which user, and by whose leave."""

from __future__ import annotations

import base64

import pytest

from configs.errors import InputError, RefusedError
from infra.gitlab.pin import Branch, authorization

pytestmark = pytest.mark.unit
STATIC = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
LEFT = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "TUNEGATE_GITLAB_TOKEN", "CI_JOB_TOKEN", "CI_SERVER_URL")

MERGE_REQUEST = {
    "CI_PROJECT_URL": "https://gitlab.example.com/group/project",
    "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "tune",
    "CI_COMMIT_SHA": "a" * 40,
    "CI_PROJECT_ID": "35",
    "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "35",
    "CI_MERGE_REQUEST_SOURCE_BRANCH_SHA": "",
}


def merge_request(monkeypatch: pytest.MonkeyPatch, **others: str) -> None:
    for name, value in (MERGE_REQUEST | others).items():
        monkeypatch.setenv(name, value)


def test_the_branch_is_the_merge_requests_own(monkeypatch: pytest.MonkeyPatch) -> None:
    merge_request(monkeypatch)
    assert Branch.from_environment() == Branch("https://gitlab.example.com/group/project.git", "tune", "a" * 40)


def test_with_merged_results_the_branchs_own_commit_was_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    merge_request(monkeypatch, CI_MERGE_REQUEST_SOURCE_BRANCH_SHA="b" * 40)
    assert Branch.from_environment().judged == "b" * 40


@pytest.mark.parametrize("missing", ["CI_PROJECT_URL", "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "CI_COMMIT_SHA"])
def test_outside_a_merge_request_nothing_is_pinned(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    merge_request(monkeypatch, **{missing: ""})
    with pytest.raises(InputError, match=missing):
        Branch.from_environment()


@pytest.mark.parametrize("source", ["36", ""])
def test_a_fork_pushes_nothing(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    merge_request(monkeypatch, CI_MERGE_REQUEST_SOURCE_PROJECT_ID=source)
    with pytest.raises(RefusedError, match="fork"):
        Branch.from_environment()


def test_the_jobs_own_token_goes_to_the_server_alone_and_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LEFT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CI_SERVER_URL", "https://gitlab.example.com")
    assert authorization() == {}
    monkeypatch.setenv("TUNEGATE_GITLAB_TOKEN", "a-secret")
    assert authorization() == {}, "a merge request's job uses no secret, wherever one came from"
    monkeypatch.setenv("CI_JOB_TOKEN", "a-token")
    found = authorization()
    assert found["GIT_CONFIG_KEY_0"] == "http.https://gitlab.example.com/.extraHeader"
    assert base64.b64decode(found["GIT_CONFIG_VALUE_0"].rpartition(" ")[2]).decode() == "gitlab-ci-token:a-token"
