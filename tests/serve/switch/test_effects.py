"""Each effect may be repeated after a kill and ends in the same state; what is recorded is what was done. The machine
is that of fake_machine.py."""

from __future__ import annotations

from pathlib import Path

import pytest

import serve.deploy
import serve.switch.effects
from configs.errors import ExternalError, InputError, RefusedError
from infra.signing import sign
from serve.plan.observe import observe
from serve.record.environment import Environment
from tests.infra.test_signing import make_pair
from tests.support.fake_machine import World, do, env, environment, kinds, release, world
from tests.support.few_bytes import publish
from tests.support.judging import bound_verdict, verdict_path

__all__ = ["env", "release", "world"]
pytestmark = pytest.mark.unit


def test_started_again_a_slot_has_one_server_that_the_record_names_and_the_last_one_is_ended_even_if_no_record_names_it(
    world: World, env: Environment, release: str
) -> None:
    first, second = (env.process(do(env, "start", "green", release=release), "green") for _ in range(2))
    assert first != second == world.servers[8102]
    assert world.done == ["label green", "start green", "stop green", "label green", "start green"]
    env.record.path.unlink()
    assert env.process(do(env, "start", "green", release=release), "green") == world.servers[8102]
    assert world.done.count("stop green") == 2 and world.digests == {"green": release.partition("@")[2]}


def test_the_intent_to_start_is_on_disk_before_the_process_is(world: World, env: Environment, release: str) -> None:
    world.fails = {"start blue": ExternalError("no")}
    with pytest.raises(ExternalError):
        do(env, "start", "blue", release=release)
    state = env.record.state()
    assert kinds(env) == ["starting"] and state.release_of("blue") == release and env.alive(state) == frozenset()


def test_a_slot_loads_only_what_the_pinned_key_has_signed(world: World, env: Environment, release: str) -> None:
    """Unsigned, signed by a stranger, signed and changed since: nothing is recorded nor started."""
    pair, stranger = make_pair(Path()), make_pair(Path(), "stranger")
    asked = environment(signing={"public_key": pair.public.read_text()})
    folder = next(Path("releases").glob("one@*/release"))

    def refused(why: str) -> None:
        with pytest.raises(RefusedError, match=why):
            do(asked, "start", "blue", release=release)
        assert kinds(asked) == [] and world.done == []

    refused("found no .*model.sig")
    sign(folder, stranger.private)
    refused("Key mismatch")
    sign(folder, pair.private)
    manifest = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(
        manifest.replace("2026-11-24", "2026-11-25")
    )  # which the digest does not cover
    refused("Hash mismatch for 'manifest.json'")
    (folder / "manifest.json").write_text(manifest)
    do(asked, "start", "blue", release=release)
    assert world.done == ["label blue", "start blue"]


def test_a_deploy_of_what_is_not_signed_is_refused_and_what_serves_serves_on(
    world: World, env: Environment, release: str
) -> None:
    pair = make_pair(Path())
    bound_verdict(release, "x").write(verdict_path(release))
    for folder in ("release", "gate"):
        sign(next(Path("releases").glob(f"one@*/{folder}")), pair.private)
    asked = environment(signing={"public_key": pair.public.read_text()})
    serve.deploy.deploy(asked, release)
    done, before = list(world.done), kinds(asked)
    with pytest.raises(RefusedError, match=r"found no .*model.sig"):
        serve.deploy.deploy(asked, publish("two"))
    assert world.serving() == release and world.done == done and kinds(asked) == before


def test_one_wrong_byte_and_nothing_is_recorded_nor_started(world: World, env: Environment, release: str) -> None:
    next(Path("releases").glob("one@*/release/model.safetensors")).write_text("onE")
    with pytest.raises(RefusedError, match=r"model\.safetensors"):
        do(env, "start", "blue", release=release)
    with pytest.raises(InputError, match="no such release"):
        do(env, "start", "blue", release="two@sha256:" + "0" * 64)
    assert world.done == [] and kinds(env) == []


def test_a_proof_is_recorded_with_its_facts_and_may_be_repeated(
    world: World, env: Environment, release: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(env, "start", "blue", release=release)
    monkeypatch.setattr(serve.switch.servers, "prove", lambda proof, *rest: {"agreement": 1.0})
    for _ in range(2):
        state = do(env, "prove", "blue", proof="parity")
    assert state.slots["blue"] and state.slots["blue"].proofs == {"parity"}
    assert env.record.read()[-1].facts == {"proof": "parity", "seconds": 0.0, "agreement": 1.0}


def test_a_slot_without_a_server_on_record_has_nothing_to_prove(world: World, env: Environment) -> None:
    with pytest.raises(ExternalError, match="slot blue has no server on record"):
        env.slot_parts(env.record.state(), "blue")


def test_people_are_told_one_line_a_step(world: World, release: str) -> None:
    lines: list[str] = []
    env = Environment(environment().config, lines.append)
    do(env, "start_router")
    do(env, "start", "blue", release=release)
    do(env, "prove", "blue", proof="load")
    do(env, "switch", "blue")
    do(env, "stop", "green")
    assert [line.split()[0] for line in lines] == ["open", "start", "prove", "switch", "retire"]
    assert lines[2].endswith(": load")  # demo.py opens its streams at this line


def test_what_is_observed_comes_from_the_router_and_the_processes_never_from_the_record(
    world: World, env: Environment, release: str
) -> None:
    state = do(env, "start", "blue", release=release)
    world.routed = "blue"
    assert vars(observe(env, state)) == {
        "router_running": False,
        "weights": {},
        "alive": {"blue"},
        "hung": frozenset(),
        "now": world.moment(),
        "died": frozenset(),
    }
    world.servers.clear()
    world.router_up = True
    seen = observe(env, state)
    assert (seen.router_running, seen.routed, seen.alive) == (True, "blue", frozenset())
