"""Two slots on one server: the second adapter is loaded beside the first, retired without it, and dies with it. The
router is real, vLLM is not."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from pydantic import ValidationError

from configs.errors import ExternalError, RefusedError
from configs.release import Manifest, read_manifest, short
from configs.slots import SlotName
from infra.boot import identify
from infra.dvc.releases import folder_of
from infra.haproxy.api_keys import api_key
from infra.haproxy.router import Router
from infra.vllm.adapter_names import prefix_of
from infra.vllm.runtime import load_adapter, unload_adapter
from infra.vllm.server import SlotProcess, is_alive
from serve.deploy import deploy, rollback, stop_all
from serve.plan.capacity import GIB, adapter_gib, decide_adapter
from serve.preview import preview
from serve.record.environment import Environment
from serve.switch.servers import crash
from serve.switch.shared_server import port_for, read_by_server, why_not_shared
from serve.view.logs import logs_of
from serve.view.status import status
from tests.support.agent_scene import Scene, digest, folder, scene
from tests.support.fake_machine import receipt_in
from tests.support.fake_servers import fake_environment, misbehave, publish_fake

__all__ = ["folder", "scene"]
ADAPTER: dict[str, Any] = {"capacity": "adapter"}


def manifest_of(reference: str) -> Manifest:
    return read_manifest(folder_of(reference) / "release")


def rewrite(reference: str, **facts: Any) -> Manifest:
    """A manifest that says something else; its digest stays."""
    changed = manifest_of(reference).model_copy(update=facts)
    (folder_of(reference) / "release" / "manifest.json").write_text(changed.model_dump_json())
    return changed


def recorded(env: Environment, slot: SlotName, reference: str, **facts: Any) -> None:
    """This very process plays the slot's server."""
    process = identify(os.getpid())
    assert process is not None
    me = {**process._asdict(), "port": 8101, "log": "x.log"}
    env.record.append("starting", slot, release=reference)
    env.record.append("started", slot, **me | facts)


ROOM = {"room": {"rank": 8, "layers": ["k_proj", "q_proj"]}}


@pytest.mark.unit
@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, None),
        ({"quantization": {"scheme": "int8"}}, "two@.* holds merged weights"),
        ({"quantization": {"scheme": "adapter", "rank": 9, "layers": ["q_proj"]}}, "takes ranks up to 8, not 9"),
        (
            {"quantization": {"scheme": "adapter", "rank": 8, "layers": ["o_proj", "q_proj"]}},
            "takes no adapter on o_proj",
        ),
        ({"files": []}, "has another base or tokenizer than one@"),
        ({"serving": {"max_model_len": 64}}, "has another serving: than one@"),
    ],
)
def test_an_adapter_goes_into_the_server_that_runs_only_where_that_reads_the_same_bytes_and_has_room(
    folder: Path, changed: dict[str, Any], why: str | None
) -> None:
    env, (one, two) = fake_environment(**ADAPTER), (publish_fake(name, base="base") for name in ("one", "two"))
    recorded(env, "blue", one, **ROOM)
    facts = changed | (
        {"serving": manifest_of(two).serving.model_copy(update=changed["serving"])} if "serving" in changed else {}
    )
    found = why_not_shared(env, env.record.state(), "blue", manifest_of(two).model_copy(update=facts))
    assert (found is None) == (why is None) and re.search(why or "None", str(found))


@pytest.mark.unit
def test_it_gets_a_server_of_its_own_where_none_runs_or_the_one_that_runs_was_not_started_for_it(folder: Path) -> None:
    env, (one, two) = fake_environment(**ADAPTER), (publish_fake(name, base="base") for name in ("one", "two"))
    merged = publish_fake("merged")
    assert why_not_shared(env, env.record.state(), None, manifest_of(two)) == "nothing serves"
    assert why_not_shared(fake_environment(), env.record.state(), None, manifest_of(two)) == "capacity is auto"
    recorded(env, "blue", one)
    assert (
        why_not_shared(env, env.record.state(), "blue", manifest_of(two))
        == "the server that runs was started without capacity: adapter"
    )
    recorded(env, "blue", merged, **ROOM)
    assert why_not_shared(env, env.record.state(), "blue", manifest_of(two)) == f"{short(merged)} holds merged weights"
    recorded(env, "blue", one, **ROOM | {"ticks": 0})
    assert why_not_shared(env, env.record.state(), "blue", manifest_of(two)) == "nothing serves"
    assert read_by_server(manifest_of(one)) == read_by_server(manifest_of(two)) != read_by_server(manifest_of(merged))


@pytest.mark.unit
def test_a_slot_takes_the_port_that_the_other_one_does_not_live_at(folder: Path) -> None:
    env, one = fake_environment(slot_ports=(8101, 8102)), publish_fake("one", base="base")
    assert [port_for(env, env.record.state(), slot) for slot in ("blue", "green")] == [8101, 8102]
    recorded(env, "green", one, port=8101)
    assert [port_for(env, env.record.state(), slot) for slot in ("blue", "green")] == [8102, 8102]
    env.record.append("crashed", "green", release=one)
    assert port_for(env, env.record.state(), "blue") == 8101, "one whose crash is on record lives nowhere"


@pytest.mark.unit
def test_its_need_is_its_own_bytes_and_what_does_not_fit_is_refused_with_the_arithmetic(folder: Path) -> None:
    manifest = manifest_of(publish_fake("one", base="base"))
    assert adapter_gib(manifest) * GIB == 3
    config = fake_environment(**ADAPTER).config
    found = decide_adapter(config, 0.1, 1.0)
    assert (found["mode"], found["why"]) == (
        "adapter",
        "adapter: needs 0.100 GiB in the server that runs, beside what serves; 1.00 free, 0.50 kept back",
    )
    with pytest.raises(RefusedError, match=r"no memory for one more adapter: needs 0\.600 GiB"):
        decide_adapter(config, 0.6, 1.0)


@pytest.mark.unit
def test_shares_of_one_server_could_not_be_watched_so_a_canary_is_refused_where_the_yaml_is_read() -> None:
    with pytest.raises(
        ValidationError,
        match="blue-green or shadow with capacity adapter: vLLM counts the adapters of one server together",
    ):
        fake_environment(strategy={"kind": "canary"}, **ADAPTER)


@pytest.fixture
def shared(folder: Path) -> Iterator[tuple[Scene, str, str]]:
    """`old` serves from a server that takes more."""
    scene = Scene(**ADAPTER)
    old, new = publish_fake("old", base="base"), publish_fake("new", base="base")
    deploy(scene.env, old)
    yield scene, old, new
    stop_all(scene.env)


@pytest.mark.integration
def test_the_second_adapter_is_proven_switched_to_and_rolled_back_from_in_the_same_process(
    shared: tuple[Scene, str, str],
) -> None:
    scene, old, new = shared
    before = scene.server("blue")
    plan = preview(scene.env, new)
    assert plan["mode"] == "adapter" and plan["steps"][1] == f"start green {new[:40]}"
    found = deploy(scene.env, new)
    green = scene.server("green")
    assert (
        green.is_same_process(before)
        and green.prefix == prefix_of("green", short(new))
        and receipt_in(found)["capacity"] == "adapter"
    )
    assert scene.serving() == digest(new) and said(scene) == "new 0"
    rollback(scene.env)
    assert scene.serving() == digest(old) and said(scene) == "old 0"
    assert list(logs_of(scene.env, "green").values()) == list(logs_of(scene.env, "blue").values())
    seen = status(scene.env)["slots"]
    assert (
        seen["blue"]["server"] == f"127.0.0.1:{before.port}"
        and seen["green"]["server"] == f"127.0.0.1:{before.port}{green.prefix}"
    )


def said(scene: Scene) -> str:
    body = {"model": scene.env.config.model, "messages": [{"role": "user", "content": "question 0"}], "max_tokens": 2}
    headers = {"Authorization": f"Bearer {api_key(scene.env.config)}"}
    return str(
        httpx.post(f"{scene.env.router.base_url}/v1/chat/completions", json=body, headers=headers, timeout=10).json()[
            "choices"
        ][0]["message"]["content"]
    )


@pytest.mark.integration
def test_three_in_a_row_the_one_before_is_taken_out_and_a_merged_release_gets_a_server_at_the_other_port(
    shared: tuple[Scene, str, str],
) -> None:
    scene, old, new = shared
    engine = scene.server("blue")
    third, merged = publish_fake("third", base="base"), publish_fake("merged")
    for release in (new, third):
        deploy(scene.env, release)
    assert asked(scene.server("green")) == 200 and asked(replace(engine, prefix=prefix_of("blue", short(old)))) == 404
    assert scene.server("blue").prefix == prefix_of("blue", short(third)) and scene.server("blue").is_same_process(
        engine
    )
    deploy(scene.env, merged)
    assert scene.serving() == digest(merged) and said(scene) == "merged 0"
    ports = scene.env.config.slot_ports
    assert (
        scene.server("green").port == ports[1]
        and scene.server("blue").port == ports[0] == engine.port
        and is_alive(engine)
    )
    deploy(scene.env, old)
    assert not is_alive(engine) and scene.serving() == digest(old) and scene.server("blue").port == ports[0], (
        "the last adapter's end was its server's"
    )


def asked(server: SlotProcess) -> int:
    body = {"model": "m", "messages": [{"role": "user", "content": "question 0"}], "max_tokens": 2}
    return httpx.post(f"{server.base_url}/v1/chat/completions", json=body, timeout=10).status_code


@pytest.mark.integration
def test_the_death_of_the_server_takes_both_slots_and_the_agent_brings_back_what_served(
    shared: tuple[Scene, str, str],
) -> None:
    scene, _, new = shared
    deploy(scene.env, new)
    scene.want(new)
    os.killpg(scene.server("blue").pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(scene.server("blue").pid)], timeout=5)
    scene.turn()
    crashed = [event.slot for event in scene.env.record.read() if event.kind == "crashed"]
    assert crashed == ["blue", "green"] and scene.serving() == digest(new) and said(scene) == "new 0"
    assert scene.server("green").prefix == "", "a server of its own"


@pytest.mark.integration
@pytest.mark.parametrize("hanging", [["new"], ["new", "old"]])
def test_what_hangs_is_ended_the_adapter_alone_while_the_other_one_answers_else_the_server(
    shared: tuple[Scene, str, str], hanging: list[str]
) -> None:
    scene, _, new = shared
    deploy(scene.env, new)
    engine, green = scene.server("blue"), scene.server("green")
    misbehave(Path(), **dict.fromkeys(hanging, "hang"))
    crash(scene.env, scene.env.record.state(), "green", "it accepts requests and does not answer")
    assert is_alive(engine) is (hanging == ["new"]) and "green" not in scene.env.alive(scene.env.record.state())
    if is_alive(engine):
        assert (asked(green), asked(engine)) == (404, 200)


@pytest.mark.integration
def test_an_adapter_that_does_not_load_or_fails_a_proof_leaves_what_serves_as_it_was(
    shared: tuple[Scene, str, str],
) -> None:
    scene, old, new = shared
    misbehave(Path(), new="wrong")
    with pytest.raises(RefusedError, match="served answers differ"):
        deploy(scene.env, new)
    engine = scene.server("blue")
    assert scene.serving() == digest(old) and asked(replace(engine, prefix=prefix_of("green", short(new)))) == 404, (
        "unloaded again"
    )
    with pytest.raises(ExternalError, match="did not load the adapter x"):
        load_adapter(replace(engine, port=1), "x", Path())
    unload_adapter(engine, "never loaded")
    assert json.loads(httpx.get(f"{engine.base_url}/v1/models").text)["object"] == "list"


@pytest.mark.integration
def test_a_router_that_was_told_another_server_by_hand_is_mended(shared: tuple[Scene, str, str]) -> None:
    scene, _, new = shared
    deploy(scene.env, new)
    scene.want(new)
    scene.turn()
    Router(scene.env.config).set_server("green", scene.server("green").port, prefix_of("green", "another@000000000000"))
    assert scene.serving() != "" and asked(scene.server("green")) == 200
    scene.turn()
    assert said(scene) == "new 0" and any("servers.map" in line for line in scene.said)
