"""Pause, resume, abort, hold: what is under way obeys, what is not is refused, and no verb ends what serves."""

from __future__ import annotations

from typing import Any

import pytest

from configs.errors import ExternalError, RefusedError
from serve.deploy import deploy, promote, rollback
from serve.operate import abort, hold, pause, resume
from serve.record.environment import BusyError, Environment, locked
from tests.support.fake_machine import World, environment, kinds, receipt_in, world
from tests.support.few_bytes import publish

__all__ = ["world"]
pytestmark = pytest.mark.unit
CANARY: dict[str, Any] = {"strategy": {"kind": "canary", "steps": [5, 100], "bake_seconds": 1}, "promotion": "manual"}


@pytest.fixture
def waiting(world: World) -> Environment:
    """A canary at 5 %, waiting for its promotion."""
    env = environment(**CANARY)
    deploy(env, publish("old"))
    promote(env)
    assert deploy(env, publish("new"))["weight"] == 5
    return env


def test_a_canary_waits_at_its_share_and_an_abort_takes_it_back(world: World, waiting: Environment) -> None:
    assert world.shares == {"blue": 95, "green": 5}
    found = abort(waiting)
    assert (
        str(found["release"]).startswith("old@")
        and world.shares == {"blue": 100, "green": 0}
        and list(world.servers) == [8101]
    )
    with pytest.raises(RefusedError, match="nothing is under way"):
        abort(waiting)


def test_nothing_goes_further_while_paused_and_resume_goes_on(world: World, waiting: Environment) -> None:
    assert pause(waiting)["weight"] == 5 and pause(waiting) and kinds(waiting).count("paused") == 1
    assert promote(waiting)["next"] == "tunegate resume x" and world.shares["green"] == 5
    assert str(resume(waiting)["release"]).startswith("new@") and world.shares == {"blue": 0, "green": 100}
    with pytest.raises(RefusedError, match="neither paused, held nor waiting"):
        resume(waiting)


def test_a_pause_in_the_bake_keeps_it_watching(world: World) -> None:
    env, old, new = environment(), publish("old"), publish("new")
    deploy(env, old)
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            pause(env)
        if looks == 40:
            env.record.append("resumed")

    world.on_sleep = look
    assert receipt_in(deploy(env, new))["seconds_watched"] >= 9


def test_an_abort_in_the_bake_goes_back_at_once(world: World) -> None:
    env, old, new = environment(bake_seconds=50), publish("old"), publish("new")
    world.on_sleep = lambda: None
    deploy(env, old)
    world.on_sleep = lambda: (
        env.record.append("aborted", why="by the operator") if "aborted" not in kinds(env) else None
    )
    assert deploy(env, new)["release"] == old and world.serving() == old and list(world.servers) == [8101]


def test_a_hold_outlasts_the_yaml_and_a_resume_deploys_it(world: World, waiting: Environment) -> None:
    assert str(hold(waiting)["release"]).startswith("old@") and list(world.servers) == [8101]
    new = next(
        event.facts["release"]
        for event in waiting.record.read()
        if event.kind == "desired" and event.facts["release"].startswith("new")
    )
    with pytest.raises(RefusedError, match="x is held at old@"):
        deploy(waiting, new)
    pinned = Environment(waiting.config.model_copy(update={"release": new}))
    assert resume(pinned)["waiting"] == new and world.shares["green"] == 5


def test_nothing_that_serves_cannot_be_held_nor_aborted(world: World) -> None:
    for verb in (hold, abort, resume):
        with pytest.raises(RefusedError):
            verb(environment())
    assert world.done == []


def test_beside_a_command_at_work_the_wish_is_recorded_and_its_holder_followed(
    world: World, waiting: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    with locked(waiting):
        with pytest.raises(BusyError):
            promote(waiting)
        monkeypatch.setattr("serve.switch.reconcile.holder_of", Holders(waiting))
        with pytest.raises(ExternalError, match="ended before the request was carried out"):
            abort(waiting)
    assert kinds(waiting)[-1] == "aborted"


class Holders:
    """It lives when it is first asked for, and is gone at the next look."""

    def __init__(self, env: Environment) -> None:
        self.found = [env.record.state().holder, None]

    def __call__(self, env: Environment) -> object:
        return self.found.pop(0)


def test_a_rollback_of_what_does_not_serve_yet_calls_it_off_and_never_lets_it_in(
    world: World, waiting: Environment
) -> None:
    """The proven release in the other slot is the new one."""
    found = rollback(Environment(waiting.config, why="answers are cut short"))
    assert str(found["release"]).startswith("old@") and world.shares == {"blue": 100, "green": 0}
    assert list(world.servers) == [8101] and kinds(waiting).count("switched") == 1
    aborted = next(event for event in waiting.record.read() if event.kind == "aborted")
    assert aborted.facts["why"] == "answers are cut short"
    with pytest.raises(RefusedError, match="no proven release is warm"):
        rollback(waiting)


def test_a_rollback_overtakes_the_command_that_is_deploying(
    world: World, waiting: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    with locked(waiting):
        monkeypatch.setattr("serve.switch.reconcile.holder_of", Holders(waiting))
        with pytest.raises(ExternalError, match="ended before the request was carried out"):
            rollback(waiting)
    assert kinds(waiting)[-1] == "aborted"
