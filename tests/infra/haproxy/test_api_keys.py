"""API keys: what is kept, what the router makes of it, and that all of it changes while it serves."""

from __future__ import annotations

import json
import stat
import threading
import time
from pathlib import Path

import pytest

from configs.environment.config import DeployConfig
from configs.errors import InputError
from infra.haproxy.api_keys import KeyLimits, Keyring, api_key, hash_of
from tests.infra.conftest import RunningProxy

LIMITS = KeyLimits.model_validate({})


def limits(**values: object) -> KeyLimits:
    return KeyLimits.model_validate(values)


@pytest.fixture
def keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keyring:
    monkeypatch.chdir(tmp_path)
    return Keyring(DeployConfig.model_validate({"name": "x", "model": "m", "gate": None, "state_dir": "state"}))


@pytest.mark.unit
def test_only_the_hash_is_kept_and_only_the_owner_may_read_it(keyring: Keyring) -> None:
    secret = keyring.add("search", LIMITS)
    files = [path for path in Path("state").rglob("*") if path.is_file() and path.suffix != ".lock"]
    record = Path("state/events.jsonl")
    files.remove(record)
    assert secret not in record.read_text() and hash_of(secret) not in record.read_text()
    assert len(files) == 2 and all(
        secret not in path.read_text() and hash_of(secret) in path.read_text() for path in files
    )
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert len(secret) >= 43


@pytest.mark.unit
@pytest.mark.parametrize("name", ["search", "default", "Bad Name", "a|b", ""])
def test_a_name_is_taken_once_and_must_be_one(keyring: Keyring, name: str) -> None:
    keyring.add("search", LIMITS)
    with pytest.raises(InputError):
        keyring.add(name, LIMITS)
    assert [key.name for key in keyring.read()] == ["search"]


@pytest.mark.unit
def test_rotation_keeps_the_old_key_for_the_grace_time_and_no_third_one(keyring: Keyring) -> None:
    keyring.add("search", limits(requests_per_minute=7))
    first = keyring.read()[0]
    keyring.rotate("search", 60)
    keyring.rotate("search", 60)
    old, new = keyring.read()
    assert first.sha256 not in {old.sha256, new.sha256} and old.sha256 != new.sha256
    assert 0 < old.limits.expires - time.time() <= 60 and new.limits.expires == 0
    assert {key.limits.requests_per_minute for key in (old, new)} == {7}


@pytest.mark.unit
def test_rotation_without_grace_ends_the_old_key_and_never_prolongs_one(keyring: Keyring) -> None:
    keyring.add("search", limits(expires=int(time.time()) + 5))
    keyring.rotate("search", 3600)
    assert keyring.read()[0].limits.expires <= time.time() + 5
    secret = keyring.rotate("search", 0)
    assert [key.sha256 for key in keyring.read()] == [hash_of(secret)]


@pytest.mark.unit
@pytest.mark.parametrize(
    "change",
    [lambda keys: keys.revoke("other"), lambda keys: keys.rotate("other", 1), lambda keys: keys.revoke("default")],
)
def test_what_is_not_there_or_is_the_default_is_a_clear_error(keyring: Keyring, change: object) -> None:
    keyring.add("search", LIMITS)
    with pytest.raises(InputError, match=r"found no key|TUNEGATE_API_KEY"):
        change(keyring)  # type: ignore[operator]  # one of the three above


@pytest.mark.unit
def test_a_spoilt_file_is_named_and_left_as_it_is(keyring: Keyring) -> None:
    keyring.add("search", LIMITS)
    keyring.path.write_text("[{]")
    with pytest.raises(InputError, match=r"keys\.json"):
        keyring.add("other", LIMITS)
    assert keyring.path.read_text() == "[{]"


@pytest.mark.unit
def test_the_default_key_follows_its_variable_and_is_one(keyring: Keyring) -> None:
    keyring.set_default("one")
    keyring.set_default("two")
    keyring.set_default("two")
    assert [(key.name, key.sha256) for key in keyring.read()] == [("default", hash_of("two"))]


@pytest.mark.unit
def test_keys_added_at_the_same_time_are_all_kept(keyring: Keyring) -> None:
    threads = [threading.Thread(target=keyring.add, args=(f"team-{number}", LIMITS)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keyring.read()) == 12 and len(json.loads(keyring.path.read_text())) == 12


@pytest.mark.integration
def test_keys_come_and_go_while_the_router_is_open(proxy: RunningProxy) -> None:
    keyring, pid = Keyring(proxy.router.config), proxy.router.pid()
    secret = keyring.add("search", LIMITS)
    assert proxy.ask(key=secret, json={}).status_code == 200
    new = keyring.rotate("search", 3600)
    assert [proxy.ask(key=key, json={}).status_code for key in (secret, new)] == [200, 200]
    newest = keyring.rotate("search", 0)
    assert [proxy.ask(key=key, json={}).status_code for key in (secret, new, newest)] == [401, 401, 200]
    keyring.revoke("search")
    assert proxy.ask(key=newest, json={}).status_code == 401
    assert proxy.ask(json={}).status_code == 200 and proxy.router.pid() == pid


@pytest.mark.integration
def test_a_restarted_router_knows_its_keys(proxy: RunningProxy) -> None:
    secret = Keyring(proxy.router.config).add("search", LIMITS)
    proxy.router.stop(0)
    proxy.router.start("another-default")
    assert [proxy.ask(key=key, json={}).status_code for key in (secret, "another-default", "sesame-open")] == [
        200,
        200,
        401,
    ]


@pytest.mark.integration
def test_a_key_ends_at_its_time(proxy: RunningProxy) -> None:
    secret = Keyring(proxy.router.config).add("short", limits(expires=int(time.time()) + 2))
    assert proxy.ask(key=secret, json={}).status_code == 200
    while time.time() < Keyring(proxy.router.config).read()[-1].limits.expires:
        time.sleep(0.1)
    reply = proxy.ask(key=secret, json={})
    assert reply.status_code == 401 and "expired" in reply.json()["error"]["message"]


@pytest.mark.integration
def test_scopes_are_groups_of_paths(proxy: RunningProxy) -> None:
    secret = Keyring(proxy.router.config).add("labels", limits(scopes=["classify", "models"]))
    assert proxy.ask(path="/classify", key=secret, json={}).status_code == 200
    assert proxy.ask("GET", "/v1/models", key=secret).status_code == 200
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"):
        reply = proxy.ask(path=path, key=secret, json={})
        assert reply.status_code == 403 and reply.json()["error"]["type"] == "permission_error"
    assert {arrival.path for arrival in proxy.arrivals} == {"/classify", "/v1/models"}


@pytest.mark.unit
def test_the_default_key_comes_from_the_environment_else_from_a_file_of_its_owner(
    keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEGATE_API_KEY", "given-by-the-operator")
    assert api_key(keyring.config) == "given-by-the-operator" and not Path("state/api_key").exists()
    monkeypatch.delenv("TUNEGATE_API_KEY")
    made = api_key(keyring.config)
    assert made == api_key(keyring.config) and len(made) >= 32 and Path("state/api_key").stat().st_mode & 0o077 == 0
