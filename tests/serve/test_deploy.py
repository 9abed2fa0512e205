"""One environment's life, with the real vLLM, HAProxy and locust: deployed, switched under streams and killed in the
middle, rolled back, offered bad bytes, robbed of its server, stopped. The tests run in order and share the
deployment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from benchmarks.serve.streams import Streams
from configs.environment.config import DeployConfig
from configs.errors import InputError, RefusedError
from eval.gate import read_rules
from eval.rules.decide import decide_load
from infra.haproxy.api_keys import api_key
from serve.deploy import deploy, promote, rollback, stop_all
from serve.record.environment import Environment, locked
from serve.record.event import PROOF
from serve.view.status import status
from tests.paths import ROOT
from tests.support.fake_machine import receipt_in

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
# The command itself, killed by SIGKILL after HAProxy has switched and before the record says so.
KILLED = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
import serve.switch.traffic
from pathlib import Path
from configs.environment.config import DeployConfig
from eval.gate import read_rules
from eval.rules.decide import decide_load
from serve.deploy import deploy
from serve.record.environment import Environment
from tests.support.judging import judged_when_asked
command = os.getpid()
# The switch is a task of the command's, which dies with it.
serve.switch.traffic.wait_for_slot = lambda *a: (os.kill(command, 9), time.sleep(60))
rules = read_rules(Path("load.yaml"))
config = DeployConfig.model_validate_json(sys.argv[2])
env = Environment(config, load_gate=lambda r, f: decide_load(rules, r, f))
with judged_when_asked():
    deploy(env, sys.argv[3])
"""


@pytest.fixture(scope="module")
def env(config: DeployConfig) -> Iterator[Environment]:
    rules = read_rules(Path("load.yaml"))
    found = Environment(config, load_gate=lambda reference, figures: decide_load(rules, reference, figures))
    yield found
    stop_all(found)


@pytest.fixture(scope="module")
def old(publish: Callable[..., str]) -> str:
    return publish("old", 1)


@pytest.fixture(scope="module")
def new(publish: Callable[..., str]) -> str:
    return publish("new", 2)


def serving(env: Environment) -> str:
    reply = httpx.get(f"{env.router.base_url}/v1/models", headers={"Authorization": f"Bearer {api_key(env.config)}"})
    reply.raise_for_status()
    return reply.headers["x-tunegate-release"]


def digest(reference: str) -> str:
    return reference.partition("@")[2]


def test_nothing_is_deployed_at_first(env: Environment) -> None:
    seen = status(env)
    assert seen["active"] is None and not seen["router"]["running"] and seen["events"] == []
    with pytest.raises(RefusedError, match="no proven release is warm"):
        rollback(env)
    with pytest.raises(RefusedError, match="no proven release is waiting"):
        promote(env)


def test_a_first_deployment_serves_what_was_proven(env: Environment, old: str) -> None:
    found = deploy(env, old)
    assert serving(env) == digest(old) and found["release"] == old
    assert status(env)["slots"]["blue"]["proofs"] == list(PROOF)
    load = next(event.facts for event in env.record.read() if event.facts.get("proof") == "load")
    assert load["requests"] > 0 and load["error_rate"] == 0 and load["time_to_first_token_p95_ms"] > 0


def test_a_deploy_killed_in_the_middle_of_its_switch_is_finished_by_the_next_and_no_stream_is_cut(
    env: Environment, old: str, new: str
) -> None:
    streams = Streams(f"{env.router.base_url}/v1", env.config.model, api_key(env.config), 2)
    streams.open()
    time.sleep(1)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(ROOT), env.config.model_dump_json(), new])
    assert killed.returncode == -signal.SIGKILL
    assert [event.kind for event in env.record.read()][-1] == "switching"
    assert serving(env) in {digest(old), digest(new)}
    found = deploy(env, new)
    counted = streams.close()
    assert serving(env) == digest(new) and receipt_in(found)["streams_cut"] == receipt_in(found)["requests_failed"] == 0
    assert (counted["streams_cut"], counted["requests_failed"], counted["releases_seen"]) == (0, 0, 2)
    assert counted["streams_completed"] >= 8 and status(env)["slots"]["blue"]["alive"]


def test_deploying_what_serves_does_nothing(env: Environment, new: str) -> None:
    before = [event.kind for event in env.record.read()]
    deploy(env, new)
    assert [event.kind for event in env.record.read()] == [*before, "acquired"]


def test_a_rollback_is_at_once(env: Environment, old: str) -> None:
    started = time.monotonic()
    found = rollback(env)
    assert serving(env) == digest(old) and found["release"] == old and time.monotonic() - started < 10


def test_one_flipped_byte_is_refused_by_name_and_what_serves_serves_on(
    env: Environment, old: str, publish: Callable[..., str]
) -> None:
    bad = publish("bad", 3)
    weights = next(Path("releases").glob("bad@*")) / "release" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(RefusedError, match=r"model\.safetensors"):
        deploy(env, bad)
    assert serving(env) == digest(old) and env.record.state().wanted.desired == old


def test_a_release_that_its_gate_refused_is_not_deployed(
    env: Environment, old: str, publish: Callable[..., str]
) -> None:
    with pytest.raises(RefusedError, match="the verdict is fail"):
        deploy(env, publish("failed", 4, "fail"))
    assert serving(env) == digest(old)


def test_a_killed_server_is_replaced_by_its_warm_heir(env: Environment, new: str) -> None:
    slot = env.record.state().slots["blue"]
    assert slot and slot.process
    os.killpg(slot.process["pid"], signal.SIGKILL)
    while (
        psutil.pid_exists(slot.process["pid"]) and psutil.Process(slot.process["pid"]).status() != psutil.STATUS_ZOMBIE
    ):
        time.sleep(0.05)
    found = deploy(env, new)
    assert found["release"] == new and serving(env) == digest(new)
    assert [event.kind for event in env.record.read()][-5:] == ["crashed", "switching", "switched", "baked", "stopped"]


def test_two_commands_do_not_change_one_environment_at_once(env: Environment, old: str) -> None:
    with locked(env), pytest.raises(InputError, match="another command"):
        deploy(env, old)


def test_stop_ends_everything_it_started(env: Environment) -> None:
    stop_all(env)
    seen = status(env)
    assert not seen["router"]["running"] and not any(slot["alive"] for slot in seen["slots"].values())
    ports = {f"{port}" for port in env.config.slot_ports}
    assert not [process for process in psutil.process_iter(["cmdline"]) if ports & set(process.info["cmdline"] or [])]
