"""What GitOps promises, shown: the checks of `make prove-gitops` (benchmarks/prove.py)."""

from __future__ import annotations

from benchmarks.prove import Check, Row, tested


def pipeline() -> list[Row]:
    """gitlab-ci-local over real jobs: training, vLLM, pins, staging and production."""
    return [
        *tested("merge request and main by gitlab-ci-local: a good config reaches production, a refused one no deploy job", "tests/test_gitlab_run.py"),
        *tested("the pages of the pipeline, and each GitLab feature that no local runner has", "tests/test_gitlab.py", "tests/test_gitlab_main.py"),
    ]


def agent() -> list[Row]:
    paths = ("tests/serve/test_agent_git.py", "tests/serve/test_agent_git_rollback.py")
    return tested("pin, revert, drift, forced history, unsigned commits, two agents: over a real bare remote", *paths)


def gitlab() -> list[Row]:
    paths = (
        "tests/infra/gitlab/test_api.py",
        "tests/infra/gitlab/test_api_failures.py",
        "tests/infra/commands/test_gitlab.py",
        "tests/infra/gitlab/test_pin.py",
    )
    return tested("GitLab's API with 401, 403, 409, 429, 500 and time-outs: retried or reported, no note twice", *paths)


def stores() -> list[Row]:
    paths = ("tests/infra/dvc/test_stores.py", "tests/infra/mlflow/test_stores.py")
    return tested("MLflow on PostgreSQL and S3, DVC on S3: two clones, servers killed in the middle, the chain back", *paths)


def trace() -> list[Row]:
    return tested("from a response header to the commit and the merge request, each gap with its command", "tests/infra/lineage/test_trace.py")


def supply() -> list[Row]:
    paths = ("tests/infra/test_signing.py", "tests/infra/files/test_sealed_log.py", "tests/serve/view/test_audit.py")
    return tested("signed releases and a sealed record: a changed byte, another key, an edited line are found", *paths)


CHECKS: dict[str, Check] = {"agent": agent, "gitlab": gitlab, "stores": stores, "trace": trace, "supply": supply, "pipeline": pipeline}
