"""What a deploy would do is what it then does, and saying it changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

import serve.plan.capacity
from configs.errors import RefusedError
from configs.verdict import RuleResult
from serve.deploy import deploy
from serve.preview import preview
from serve.record.event import PROOF
from tests.support.fake_machine import World, environment, world
from tests.support.few_bytes import publish
from tests.support.judging import bound_verdict, verdict_path

__all__ = ["world"]
pytestmark = pytest.mark.unit
CANARY = {"kind": "canary", "steps": [5, 25, 100], "bake_seconds": 0}


@pytest.mark.parametrize(
    ("facts", "steps"),
    [
        ({}, ["switch green", "bake green"]),
        ({"keep_old_slot": False}, ["switch green", "bake green", "stop blue"]),
        ({"promotion": "manual"}, ["await promotion green", "switch green", "bake green"]),
        (
            {"strategy": CANARY},
            [
                "step green 5 %",
                "analyse green 5 %",
                "step green 25 %",
                "analyse green 25 %",
                "switch green",
                "bake green",
            ],
        ),
    ],
)
def test_the_steps_are_those_of_the_plan(world: World, facts: dict[str, Any], steps: list[str]) -> None:
    old, new = publish("old"), publish("new")
    deploy(environment(), old)
    env, before = environment(**facts), environment().record.path.read_bytes()
    found = preview(env, new)
    proofs = [f"prove green {proof}" for proof in PROOF]
    assert found["steps"] == [f"measure green {new[:40]}", f"start green {new[:40]}", *proofs, *steps]
    assert (found["serves"], found["mode"]) == (old, "surge") and env.record.path.read_bytes() == before


def test_a_swap_is_said_before_it_is_done(world: World) -> None:
    old, new = publish("old"), publish("new")
    deploy(environment(), old)
    found = preview(environment(capacity="swap"), new)
    assert (
        found["steps"][1:4] == ["queue blue", "stop blue", f"start green {new[:40]}"]
        and "held by what serves" in found["capacity"]
    )


def test_what_serves_needs_no_step_and_no_pin_has_none(world: World) -> None:
    old = publish("old")
    deploy(environment(), old)
    assert preview(environment(), old)["steps"] == [] and preview(environment(), None)["steps"] == []


def test_no_room_is_refused_here_and_not_in_production(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    new = publish("new")
    monkeypatch.setattr(serve.plan.capacity, "RESERVE_GIB", 10_000.0)
    with pytest.raises(RefusedError, match="no memory for one more server"):
        preview(environment(), new)
    with pytest.raises(RefusedError, match="no memory for one more server"):
        deploy(environment(), new)
    assert world.servers == {}


def test_a_verdict_that_does_not_hold_is_told_with_what_helps_and_nothing_is_done(world: World) -> None:
    old, new = publish("old"), publish("new")
    deploy(environment(), old)
    env, before, done = environment(), environment().record.path.read_bytes(), list(world.done)
    judged = [RuleResult(rule="accuracy", outcome="pass", sentence="0.9")]
    bound_verdict(new, "elsewhere", champion=old).model_copy(update={"results": judged}).write(verdict_path(new))
    for plan in (preview, deploy):
        with pytest.raises(RefusedError, match="it was judged for elsewhere, not for x") as caught:
            plan(env, new)
        assert (caught.value.hint or "").startswith("tunegate evaluate configs/finetune/new.yaml --production x")
    assert env.record.path.read_bytes() == before and world.done == done


def test_bytes_that_differ_are_told_before_anything_is_started(world: World) -> None:
    new = publish("new")
    (verdict_path(new).parents[1] / "release/model.safetensors").write_text("other")
    with pytest.raises(RefusedError, match=r"model\.safetensors"):
        preview(environment(), new)
    assert world.done == []
