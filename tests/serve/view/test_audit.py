"""Who did what: from a real record, by the commands that people type."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import infra.haproxy.api_keys
import serve.deploy
import serve.record.record
import tunegate
from configs.errors import InputError, RefusedError
from infra.haproxy.api_keys import KeyLimits, Keyring
from serve.agent import Agent
from serve.record.environment import Environment, locked
from serve.record.event import Event
from serve.record.record import Record
from serve.view.audit import audit
from tests.support.fake_machine import World, environment
from tests.support.few_bytes import publish

pytestmark = pytest.mark.unit
YAML = (
    "name: x\nmodel: m\nrelease: null\ngate: null\nbake_seconds: 1\ndrain_deadline_seconds: 20\nstate_dir: state\n"
    "watch: {on_inconclusive: accept}\n"
)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(infra.haproxy.api_keys, "stamp", lambda: {"by": "ann@here", "commit": "c0ffee"})
    monkeypatch.setattr(serve.record.record, "stamp", lambda: {"by": "ann@here", "commit": "c0ffee"})
    Path("x.yaml").write_text(YAML)
    return World().install(monkeypatch)


def run(*words: str) -> Any:
    return CliRunner().invoke(tunegate.app, ["audit", words[0], "x.yaml", *words[1:]])


def told(env: Environment) -> list[tuple[str, str | None, str | None]]:
    return [(row["what"], row["by"], row["why"]) for row in audit(env.record.read())]


def test_what_an_agent_took_from_its_branch_or_proposed_to_it_is_told_with_the_commit() -> None:
    back = "calls@sha256:" + "a" * 64
    pulled = Event(
        at="t",
        kind="pulled",
        facts={"upstream": "origin/main", "commit": "f00", "author": "Ann <a@b>", "why": "its history was forced"},
    )
    proposed = Event(at="t", kind="proposed", facts={"release": back, "branch": "rollback/x", "commit": "ba7"})
    assert [(row["what"], row["commit"], row["why"]) for row in audit([pulled, proposed])] == [
        ("pulled", "f00 (Ann <a@b>)", "its history was forced"),
        (f"proposed calls@{'a' * 12}", "ba7", None),
    ]


def test_deploy_promotion_rollback_and_keys_are_told_with_who_and_why(world: World) -> None:
    one, two = publish("one"), publish("two")
    env = environment()
    serve.deploy.deploy(env, one)
    serve.deploy.deploy(environment(), two)
    serve.deploy.rollback(Environment(env.config, why="answers got worse"))
    Keyring(env.config).add("team", KeyLimits.model_validate({}), "a new team")
    rows = [row for row in told(env) if row[0].split()[0] in ("deploy", "rollback", "key")]
    short = {reference: reference.replace("@sha256:", "@")[: len("one@") + 12] for reference in (one, two)}
    assert rows == [
        (f"deploy {short[one]}", "ann@here", None),
        (f"deploy {short[two]}", "ann@here", None),
        (f"rollback to {short[one]}", "ann@here", "answers got worse"),
        ("key added: team", "ann@here", "a new team"),
    ]
    assert all(
        row["commit"] == "c0ffee"
        for row in audit(env.record.read())
        if row["what"].startswith(("deploy", "rollback", "key"))
    )
    switched = [row for row in audit(env.record.read()) if row["what"] == "switched"]
    assert len(switched) == 3 and all(re.fullmatch(r"command \d+@.+", str(row["by"])) for row in switched), (
        "an outcome is its holder's"
    )


def test_what_an_agent_wants_is_the_agents_and_a_persons_wish_beside_it_the_persons(world: World) -> None:
    one = publish("one")
    config = environment(release=one).config
    with locked(Environment(config), "agent") as held:
        agent = Agent(held, lambda: config)
        with agent.working(held):
            while agent.checks.action or not held.record.state().wanted.pinned:
                agent.take_up_pin()
        Environment(config, why="look first").record.append("paused")
    assert [row for row in told(Environment(config)) if row[0].split()[0] in ("deploy", "paused")] == [
        (f"deploy one@{one[11:23]}", "agent ann@here", None),
        ("paused", "ann@here", "look first"),
    ]


def test_the_commit_and_author_that_an_agent_pulled_stand_before_those_of_its_own_checkout(world: World) -> None:
    record = Record(Path("state/events.jsonl"))
    record.append("desired", release=publish("one"), commit="abc", author="Bob <bob@example.com>")
    assert [row["commit"] for row in audit(record.read())] == ["abc (Bob <bob@example.com>)"]


def test_the_programs_own_reason_stands_before_a_persons(world: World) -> None:
    record = Record(Path("state/events.jsonl"), why="because I say so")
    record.append("aborted", why="aborted by the operator")
    record.append("refused", why="parity")
    assert [row["why"] for row in audit(record.read())] == ["aborted by the operator", "parity"]


def test_key_changes_are_on_record_before_they_are_made_and_without_the_key(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = Keyring(environment().config)
    secrets = [ring.add("team", KeyLimits.model_validate({})), ring.rotate("team", 60)]
    ring.revoke("team")
    ring.set_default("sesame")
    ring.set_default("sesame")
    with pytest.raises(InputError):
        ring.revoke("nobody")
    text = Path("state/events.jsonl").read_text()
    assert [row["what"] for row in audit(Record(Path("state/events.jsonl")).read())] == [
        "key added: team",
        "key rotated: team",
        "key revoked: team",
        "key set: default",
    ]
    assert not any(secret in text for secret in [*secrets, "sesame"])

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        ring.add("late", KeyLimits.model_validate({}))
    assert [key.name for key in ring.read()] == ["default"], "no change without a line"


def test_list_takes_the_last_ones_and_verify_prints_the_head(world: World) -> None:
    record = Record(Path("state/events.jsonl"))
    for name in ("one", "two"):
        record.append("desired", release=publish(name))
    rows = json.loads(run("list", "--json", "--limit", "1").stdout)
    assert [row["what"][:10] for row in rows] == ["deploy two"] and run("list").exit_code == 0
    found = json.loads(run("verify", "--json").stdout)
    assert found == {
        "sealed_lines": 2,
        "lines_before_seals": 0,
        "torn_last_line": False,
        "head": record.read()[-1].seal,
    }


def test_verify_names_the_line_and_ends_with_one(world: World) -> None:
    record = Record(Path("state/events.jsonl"))
    for kind in ("paused", "resumed", "paused"):
        record.append(kind)  # type: ignore[arg-type]  # these are kinds
    content = record.path.read_bytes()
    record.path.write_bytes(content.replace(b'"resumed"', b'"stopped"'))
    error = run("verify").exception
    assert (
        isinstance(error, RefusedError)
        and error.exit_code == 1
        and "events.jsonl: line 2 does not follow" in error.message
    )
    record.path.write_bytes(content + b'{"at":"2026')
    assert json.loads(run("verify", "--json").stdout)["torn_last_line"]


def test_a_noted_head_finds_what_was_cut_off(world: World) -> None:
    record = Record(Path("state/events.jsonl"))
    for kind in ("paused", "resumed", "paused"):
        record.append(kind)  # type: ignore[arg-type]  # these are kinds
    first, second = (str(event.seal) for event in record.read()[:2])
    assert [run("verify", "--head", head).exit_code for head in (first, second)] == [0, 0]
    record.path.write_bytes(record.path.read_bytes().splitlines(keepends=True)[0])
    assert run("verify").exit_code == 0 and run("verify", "--head", first).exit_code == 0
    assert "lines were cut off, or all were written anew" in str(run("verify", "--head", second).exception)


def test_a_record_without_any_seal_is_not_verified(world: World) -> None:
    assert isinstance(run("verify").exception, InputError)
    Path("state").mkdir()
    Path("state/events.jsonl").write_text('{"at": "2026-11-24T00:00:00+00:00", "kind": "paused"}\n')
    assert "found 1 lines and no seal" in str(run("verify").exception)
