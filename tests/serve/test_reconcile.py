"""The loop over real records and real release folders: whatever fails, whenever it is killed. The machine is that of test_effects.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import InputError, OutsideError, RefusedError
from configs.verdict import Verdict
from serve.deploy import deploy, promote, rollback, stop_all
from serve.environment import Environment, locked
from serve.record import PROOF
from serve.status import status
from tests.serve.test_effects import Killed, World, environment, kinds, publish
from tunegate import compare_by

pytestmark = pytest.mark.unit
FIRST = ["open", "label blue", "start blue", *(f"prove {proof}" for proof in PROOF), "switch blue"]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.chdir(tmp_path)
    return World().install(monkeypatch)


@pytest.fixture
def old(world: World) -> str:
    return publish("old")


@pytest.fixture
def new(world: World) -> str:
    return publish("new")


def test_a_first_deployment_opens_starts_proves_in_order_switches_and_bakes(world: World, old: str) -> None:
    env = environment()
    world.count("blue", failed=7)  # before the switch: none of the bake's business
    found = deploy(env, old)
    assert world.done == FIRST and world.serving() == found["release"] == old
    assert kinds(env) == ["desired", "planned", "starting", "started", *["proven"] * len(PROOF), "switching", "switched", "baked"]
    assert found["receipt"]["from"]["slot"] is None and found["receipt"]["seconds_watched"] >= 1 and found["receipt"]["requests_failed"] == 0


def test_the_next_release_takes_the_other_slot_and_the_old_one_stays_warm(world: World, old: str, new: str) -> None:
    env = environment()
    deploy(env, old)
    world.done.clear()
    found = deploy(env, new)
    assert world.done == [step.replace("blue", "green") for step in FIRST[1:]] and world.serving() == new
    assert world.runs == {8101: old, 8102: new} and len(world.servers) == 2 and found["receipt"]["from"] == {"slot": "blue", "release": old}
    world.done.clear()
    deploy(env, new)
    assert world.done == []


def test_the_old_slot_is_retired_once_its_streams_have_ended_where_it_is_not_kept(world: World, old: str, new: str) -> None:
    env = environment(keep_old_slot=False)
    deploy(env, old)
    world.count("blue", open=8)
    world.on_sleep = lambda: world.count("blue", open=max(0, world.counts["blue"].open - 1))
    assert deploy(env, new)["receipt"]["streams_completed"] == 8
    assert world.done[-1] == "stop blue" and kinds(env)[-2:] == ["baked", "stopped"]


@pytest.mark.parametrize("first", [True, False], ids=["onto nothing", "over what serves"])
def test_killed_at_any_point_the_same_command_ends_with_the_desired_release_serving(old: str, new: str, monkeypatch: pytest.MonkeyPatch, first: bool) -> None:
    for number in range(1, 100):
        world, env = World().install(monkeypatch), environment(f"state-{number}")
        if not first:
            deploy(env, old)
        world.points, world.kill_at = 0, number
        try:
            deploy(env, new)
        except Killed:
            assert world.serving() in ({None, new} if first else {old, new}), number
            deploy(env, new)
        state = env.record.state()
        assert world.serving() == state.release_of(state.active) == new and state.baked and state.switching is None, number
        assert len(world.servers) == (1 if first else 2), number
        if world.points < number:
            assert number > 40
            return
    raise AssertionError("a deployment has no end")


@settings(max_examples=25, deadline=None)
@given(kills=st.lists(st.integers(1, 40), max_size=6), bad=st.sampled_from([None, *PROOF]))
def test_killed_again_and_again_what_serves_is_never_stopped(tmp_path_factory: pytest.TempPathFactory, kills: list[int], bad: str | None) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(tmp_path_factory.mktemp("checkout"))
        old, new, env, world = publish("old"), publish("new"), environment(), World().install(monkeypatch)
        deploy(env, old)
        world.fails = {f"prove {bad}": RefusedError("bad")}
        for number in [*kills, 0]:
            world.points, world.kill_at = 0, number
            try:
                deploy(env, new)
            except (Killed, RefusedError):
                assert world.serving() == old or not bad
        assert (world.serving(), len(world.servers)) == ((old, 1) if bad else (new, 2))


@pytest.mark.parametrize("step", ["start green", *(f"prove {proof}" for proof in PROOF)])
def test_what_fails_before_the_switch_leaves_what_served_serving_and_the_next_attempt_tries_again(world: World, old: str, new: str, step: str) -> None:
    env = environment()
    deploy(env, old)
    world.fails = {step: RefusedError(f"{step} is bad")}
    for attempt in (1, 2):
        with pytest.raises(RefusedError, match=f"{step} is bad"):
            deploy(env, new)
        assert kinds(env).count("starting") == 1 + attempt and env.record.state().refused == f"{step} is bad"
        assert world.serving() == old and list(world.servers) == [8101] and env.record.state().slots["green"] is None
    world.fails = {}
    deploy(env, new)
    assert world.serving() == new


def test_a_first_release_that_fails_its_proof_leaves_nothing_behind(world: World, old: str) -> None:
    world.fails = {"prove smoke": RefusedError("smoke is bad")}
    with pytest.raises(RefusedError, match="smoke is bad"):
        deploy(environment(), old)
    assert world.servers == {} and world.done == ["open", "label blue", "start blue", "prove healthy", "prove warm", "stop blue"]


@pytest.mark.parametrize("message", ["2 requests failed", "its server died"])
def test_a_failed_bake_goes_back_to_the_old_slot_and_retires_the_new_one(world: World, old: str, new: str, message: str) -> None:
    env = environment()
    deploy(env, old)
    world.on_sleep = lambda: world.count("green", failed=2) if "requests" in message else world.servers.pop(8102, None)
    with pytest.raises(RefusedError, match=message):
        deploy(env, new)
    state = env.record.state()
    assert world.serving() == state.desired == old and (state.failed, state.rollback) == (new, True)
    assert list(world.servers) == [8101] and world.done.count("start blue") == 1


def test_a_failed_bake_with_nothing_to_go_back_to_is_refused_and_serves_on(world: World, old: str) -> None:
    env = environment()
    world.on_sleep = lambda: world.count("blue", failed=1)
    with pytest.raises(RefusedError, match="1 requests failed"):
        deploy(env, old)
    assert world.serving() == old and kinds(env)[-1] == "refused"


def watched(**facts: object) -> Environment:
    return Environment(environment(watch={"failures_allowed": None}, **facts).config, compare=compare_by())


def test_a_breach_of_the_watch_goes_back_and_its_reason_is_on_record(world: World, old: str, new: str) -> None:
    env = watched(bake_seconds=60)
    deploy(env, old)
    world.count("blue", total=500)
    started = world.now
    world.on_sleep = lambda: world.count("green", total=60, failed=20) if world.routed == "green" else None
    with pytest.raises(RefusedError, match=r"under traffic error rate 33\.3% of 60 against 0\.0% of 500"):
        deploy(env, new)
    (back,) = [event for event in env.record.read() if event.facts.get("rollback")]
    assert "error rate 33.3%" in back.facts["why"] and world.serving() == old and (world.now - started).total_seconds() < 5


def test_too_little_traffic_to_compare_rolls_nothing_back_and_the_receipt_says_so(world: World, old: str, new: str) -> None:
    env = watched()
    first = deploy(env, old)
    assert first["receipt"]["watch"] == ["nothing was compared: no release served before"]
    world.on_sleep = lambda: world.count("green", total=3, failed=3)
    found = deploy(env, new)
    assert world.serving() == new and found["receipt"]["watch"] == [
        "error rate is inconclusive: 3 observations, 0 of the old release, at least 20 of each are needed",
        "vLLM's counters were not read: only the error rate is compared",
    ]


def test_a_rollback_returns_to_the_warm_slot_and_starts_and_proves_nothing(world: World, old: str, new: str) -> None:
    env = environment()
    deploy(env, old)
    deploy(env, new)
    world.count("green", open=4)
    world.done.clear()
    found = rollback(env)
    assert world.done == ["switch blue"] and world.serving() == found["release"] == old
    assert found["streams_open_at_switch"] == 4 and len(world.servers) == 2


def test_a_rollback_without_a_warm_slot_is_refused(world: World, old: str, new: str) -> None:
    env = environment()
    for prepare in (lambda: None, lambda: deploy(env, old), lambda: (deploy(env, new), world.servers.pop(8101))):
        prepare()
        before = kinds(env)
        with pytest.raises(RefusedError, match=r"no proven release is warm(.|\n)*tunegate deploy x RELEASE"):
            rollback(env)
        assert kinds(env) == before
    assert world.serving() == new


def test_where_promotion_is_manual_a_proven_release_waits_until_it_is_let_in(world: World, old: str, new: str) -> None:
    env = environment(promotion="manual")
    waiting = deploy(env, old)
    assert (waiting["waiting"], waiting["release"]) == (old, None) and "promote x" in waiting["next"] and world.serving() is None
    assert promote(env)["release"] == old
    assert deploy(env, new)["waiting"] == deploy(env, new)["waiting"] == new and world.serving() == old
    assert promote(env)["release"] == world.serving() == new and world.done.count("start green") == 1


def test_nothing_is_promoted_where_nothing_waits(world: World, old: str, new: str) -> None:
    env = environment(promotion="manual")

    def refused() -> None:
        world.fails = {"prove parity": RefusedError("bad")}
        with pytest.raises(RefusedError, match="bad"):
            deploy(env, new)

    for prepare in (lambda: None, lambda: (deploy(env, old), promote(env)), refused):
        prepare()
        with pytest.raises(RefusedError, match="no proven release is waiting"):
            promote(env)
    assert world.serving() == old


@pytest.mark.parametrize("command", [lambda env: deploy(env, publish("one")), rollback, promote, stop_all])
def test_a_second_command_at_the_same_time_is_refused(world: World, command: Callable[[Environment], object]) -> None:
    env = environment()
    with locked(env), pytest.raises(InputError, match="another command is changing x"):
        command(env)
    assert world.done == [] and kinds(env) == []


@pytest.mark.parametrize(("victim", "steps"), [(8101, ["label blue", "start blue", "prove healthy"]), (8102, ["switch blue"])])
def test_a_dead_server_is_started_again_or_replaced_by_its_heir(world: World, old: str, new: str, victim: int, steps: list[str]) -> None:
    env = environment()
    deploy(env, old)
    if victim == 8102:
        deploy(env, new)
    del world.servers[victim]
    world.done.clear()
    deploy(env, old)
    assert world.serving() == old and world.done == steps


def test_a_server_that_cannot_be_brought_back_does_not_condemn_its_release(world: World, old: str) -> None:
    env = environment()
    deploy(env, old)
    world.servers.clear()
    world.fails = {"start blue": OutsideError("start blue failed")}
    with pytest.raises(OutsideError, match="start blue failed"):
        deploy(env, old)
    world.fails = {}
    assert env.record.state().refused is None and deploy(env, old)["release"] == world.serving() == old


def test_stop_ends_the_door_first_then_both_slots_and_may_be_repeated(world: World, old: str, new: str) -> None:
    env = environment()
    deploy(env, old)
    deploy(env, new)
    world.done.clear()
    stop_all(env, 30)
    assert world.done == ["close 30", "stop blue", "stop green"] and kinds(env)[-2:] == ["stopped", "stopped"]
    before = kinds(env)
    stop_all(env)
    assert kinds(env) == before and env.record.state().active is None
    world.done.clear()
    deploy(env, new)
    assert world.done == FIRST and world.serving() == new


def test_status_reads_and_changes_nothing(world: World, old: str, new: str) -> None:
    env = environment()
    assert status(env)["active"] is None and not env.folder.exists()
    deploy(env, old)
    world.fails = {"prove parity": RefusedError("bad")}
    with pytest.raises(RefusedError):
        deploy(env, new)
    world.count("blue", open=2)
    effects = list(world.done)
    with locked(env):
        content = env.record.path.read_bytes()
        seen = json.loads(json.dumps(status(env)))
    assert env.record.path.read_bytes() == content and world.done == effects
    assert seen["door"] == {"url": "http://door", "open": True, "sends_to": "blue"} and (seen["desired"], seen["refused"]) == (new, "bad")
    assert seen["slots"]["blue"] == {
        "release": old, "alive": True, "weight": 100, "proofs": list(PROOF), "open_streams": 2, "requests": 0,
    }  # fmt: skip
    assert seen["slots"]["green"]["release"] is None and [event["kind"] for event in seen["events"]] == kinds(env)[-8:]


def test_without_a_passing_verdict_on_these_bytes_nothing_is_begun(world: World, old: str, new: str) -> None:
    verdict = Path(f"releases/old@{old[11:23]}/gate/verdict.json")
    Verdict(release=new, outcome="pass", results=[]).write(verdict)
    with pytest.raises(RefusedError, match="pass on new@"):
        deploy(environment(), old)
    verdict.unlink()
    with pytest.raises(RefusedError, match="no verdict beside it"):
        deploy(environment(), old)
    with pytest.raises(RefusedError, match="the verdict is inconclusive"):
        deploy(environment(), publish("unsure", "inconclusive"))
    assert world.done == [] and not environment().folder.exists()
