"""A push event wakes the agent; without the secret it wakes nobody, and nothing that it carries is believed."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from configs.errors import ExternalError, InputError
from serve.gitops.webhook import VARIABLE, listen

pytestmark = pytest.mark.unit
SECRET = "a-secret-of-the-tests-0123"


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    monkeypatch.setenv(VARIABLE, SECRET)
    return []


@pytest.fixture
def url(woken: list[bool]) -> Iterator[str]:
    server = listen(0, lambda: woken.append(True))
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_a_push_event_with_the_secret_wakes(url: str, woken: list[bool]) -> None:
    assert (
        httpx.post(
            url, headers={"X-Gitlab-Token": SECRET, "X-Gitlab-Event": "Push Hook"}, json={"ref": "refs/heads/other"}
        ).status_code
        == 202
    )
    assert woken == [True]


@pytest.mark.parametrize("token", [None, "", "wrong", SECRET[:-1], SECRET + "x", SECRET.upper()])
def test_another_secret_wakes_nobody(url: str, woken: list[bool], token: str | None) -> None:
    assert httpx.post(url, headers={} if token is None else {"X-Gitlab-Token": token}).status_code == 401
    assert httpx.get(url).status_code == 501 and woken == []


@pytest.mark.parametrize("secret", [None, "", "short"])
def test_without_a_secret_worth_the_name_it_does_not_listen(
    monkeypatch: pytest.MonkeyPatch, secret: str | None
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if secret is not None:
        monkeypatch.setenv(VARIABLE, secret)
    with pytest.raises(InputError, match=VARIABLE):
        listen(0, lambda: None)


def test_a_port_that_is_taken_is_an_outside_error(url: str) -> None:
    with pytest.raises(ExternalError, match="--webhook"):
        listen(int(url.rsplit(":", 1)[1].strip("/")), lambda: None)
