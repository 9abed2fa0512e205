"""What a log may show: no password of an address, no secret of the environment, and no login that git would keep."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import RefusedError
from infra.masking import masked, refuse_written_login
from infra.mlflow import client

pytestmark = pytest.mark.unit
WORDS = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=6, max_size=20)


@given(login=WORDS, password=WORDS, before=st.text(max_size=20), after=st.text(max_size=20))
def test_no_address_keeps_its_login(login: str, password: str, before: str, after: str) -> None:
    shown = masked(f"{before} postgresql+psycopg2://{login}:{password}@db:5432/mlflow {after}")
    assert f"{login}:{password}@" not in shown and "://***@db:5432/mlflow" in shown


@pytest.mark.parametrize(
    "name",
    [
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "MLFLOW_TRACKING_PASSWORD",
        "MLFLOW_TRACKING_TOKEN",
        "PGPASSWORD",
        "CI_JOB_TOKEN",
    ],
)
def test_a_secret_of_the_environment_is_never_shown(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "swordfish-7")
    assert masked("refused: swordfish-7 is wrong, swordfish-7!") == "refused: *** is wrong, ***!"


def test_of_two_secrets_the_longer_is_masked_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "swordfish")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "swordfish-and-more")
    assert masked("swordfish-and-more") == "***"


def test_a_switch_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_TOKEN", "1")
    assert masked("1 of 10 lines") == "1 of 10 lines"


def test_what_names_nobody_stays_as_it_is() -> None:
    text = "s3://bucket/releases, http://127.0.0.1:5000/#/runs/1, user@example.org"
    assert masked(text) == text


def test_a_warning_about_mlflow_shows_no_login(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(client, "WARNED", set())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ci:swordfish@mlflow.example")
    client.warn("kept", OSError("401 for https://ci:swordfish@mlflow.example/api"))
    said = capsys.readouterr().err
    assert "swordfish" not in said and said.count("***@mlflow.example") == 2


@pytest.mark.parametrize(
    "remote",
    [
        {"url": "s3://bucket", "secret_access_key": "x"},
        {"url": "s3://bucket", "session_token": "x"},
        {"url": "https://user:pass@host/path"},
        {"url": "azure://c", "connection_string": "x"},
        {"url": "ssh://host/path", "password": "x"},
    ],
)
def test_a_login_that_git_would_keep_is_refused(remote: dict[str, Any]) -> None:
    with pytest.raises(
        RefusedError, match=r"\.dvc/config: the login of remote storage is written down(.|\n)*AWS_SECRET_ACCESS_KEY"
    ) as caught:
        refuse_written_login({"remote": {"storage": remote}}, ".dvc/config")
    assert "pass@" not in str(caught.value)


@pytest.mark.parametrize(
    "remote",
    [
        {"url": "s3://bucket", "endpointurl": "https://s3.example"},
        {"url": "ssh://git@host/x"},
        {"url": "../stores/dvc"},
    ],
)
def test_a_remote_whose_login_is_elsewhere_is_good(remote: dict[str, Any]) -> None:
    refuse_written_login({"remote": {"storage": remote}, "core": {"remote": "storage"}}, ".dvc/config")
