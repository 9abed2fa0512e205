"""tunegate keys: what people type, what they see, and that the router takes it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from configs.errors import InputError
from infra.haproxy.api_keys import Keyring, hash_of
from infra.terminal import seconds_of
from tests.infra.conftest import RunningProxy
from tunegate import app


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.yaml").write_text("name: here\nmodel: assistant\nrelease: null\ngate: null\nstate_dir: state\n")
    return tmp_path / "here.yaml"


def keys(*arguments: str, environment: Path) -> Any:
    return CliRunner().invoke(app, ["keys", arguments[0], str(environment), *arguments[1:]])


def listed(environment: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(keys("list", "--json", environment=environment).output)
    return found


@pytest.mark.unit
def test_a_key_is_shown_once_and_listed_with_its_limits(environment: Path) -> None:
    secret = keys(
        "add",
        "team",
        "--rpm",
        "60",
        "--tpm",
        "9000",
        "--concurrent",
        "4",
        "--scope",
        "chat",
        "--scope",
        "models",
        environment=environment,
    ).output.strip()
    (row,) = listed(environment)
    assert secret.startswith("tg-") and row["sha256"] == hash_of(secret)[:12] and secret not in str(row)
    assert (row["requests_per_minute"], row["tokens_per_minute"], row["concurrent"], row["scopes"]) == (
        60,
        9000,
        4,
        ["chat", "models"],
    )
    assert row["expires"] is None and "team" in keys("list", environment=environment).output


@pytest.mark.unit
def test_rotate_and_revoke(environment: Path) -> None:
    first = keys("add", "team", "--expires", "90d", environment=environment).output.strip()
    second = keys("rotate", "team", "--grace", "1h", environment=environment).output.strip()
    assert first != second and len(listed(environment)) == 2
    assert keys("revoke", "team", environment=environment).output == "2 revoked\n" and listed(environment) == []


@pytest.mark.unit
@pytest.mark.parametrize(
    "arguments",
    [
        ("team", "--scope", "everything"),
        ("team", "--rpm", "-1"),
        ("team", "--expires", "soon"),
        ("Team Search",),
        ("default",),
    ],
)
def test_what_is_wrong_is_named_and_no_key_made(environment: Path, arguments: tuple[str, ...]) -> None:
    result = keys("add", *arguments, environment=environment)
    assert isinstance(result.exception, InputError) and result.exception.hint and listed(environment) == []


@pytest.mark.unit
@pytest.mark.parametrize(("text", "seconds"), [("0s", 0), ("30m", 1800), ("12h", 43_200), ("90d", 7_776_000)])
def test_times_are_numbers_with_a_unit(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.integration
def test_the_open_router_takes_a_key_at_once(proxy: RunningProxy) -> None:
    config = proxy.router.config
    Path("router.yaml").write_text(
        f"name: x\nmodel: assistant\nrelease: null\ngate: null\nstate_dir: state\n"
        f"router: {{port: {config.router.port}}}\n"
    )
    secret = keys("add", "team", "--expires", "5s", environment=Path("router.yaml")).output.strip()
    assert proxy.ask(key=secret, json={}).status_code == 200
    while time.time() < Keyring(config).read()[-1].limits.expires:
        time.sleep(0.1)
    assert proxy.ask(key=secret, json={}).status_code == 401


@pytest.mark.unit
def test_a_router_pod_is_refused_for_an_environment_of_this_machine_and_without_a_token_worth_the_name(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["router", "pod", str(environment), "--address", "127.0.0.9", "--uid", "u"]
    monkeypatch.setenv("TUNEGATE_ROUTER_TOKEN", "short")
    found = CliRunner().invoke(app, words)
    assert isinstance(found.exception, InputError) and "TUNEGATE_ROUTER_TOKEN" in found.exception.message
    monkeypatch.setenv("TUNEGATE_ROUTER_TOKEN", "a-token-of-the-routers")
    found = CliRunner().invoke(app, words)
    assert isinstance(found.exception, InputError) and "placement.kind local" in found.exception.message
