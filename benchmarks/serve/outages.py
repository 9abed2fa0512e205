"""The active server is killed at every tenth of a second of a whole deploy, of a candidate that is good and of one that
hangs in its proof, with the agent dead in half of the cases.

The router is the real HAProxy, the servers are the fake vLLM of the tests, which starts in a third of a second: what is
measured is the switching core, not vLLM's start. A case holds where callers got an answer again within a second, if a
standby was there, else as soon as the server could be started; where nobody was left who could start one, once the next
command ran.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir, suppress
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import httpx

from benchmarks.prove import Row, console
from configs.slots import other
from infra.haproxy.api_keys import api_key
from infra.vllm.server import is_alive
from serve.deploy import deploy, stop_all
from serve.record.environment import Environment
from tests.support.fake_servers import (
    fake_environment,
    fake_world,
    misbehave,
    publish_fake,
    two_servers_a_slot,
)
from tests.support.judging import judged_when_asked
from tests.support.kills import kill, wait_until

TENTH = 0.1
WITHIN_SECONDS = 1.0
START_SECONDS = 5.0  # of the fake server on a busy machine, with the agent's look before it
LONGEST_DEPLOY_SECONDS = 30.0
HANGING_SECONDS = 3.0  # how long a deploy that never ends is watched


@dataclass(frozen=True)
class Outage:
    """One kill, `after` so many seconds of a deploy. `gap`: seconds until the next good answer, None where there was
    none before the next command; `failures` is empty where the case holds. `servers`: of a
    slot, one of which is killed."""

    after: float
    hangs: bool
    agent_dies: bool
    servers: int
    standby: bool
    gap: float | None
    failures: tuple[str, ...]


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        world = patch.dict(os.environ, fake_world(Path(folder)))
        with world, judged_when_asked():
            found = [one for servers in (1, 2) for one in cases(servers)]
    failed = [one for one in found if one.failures]
    for one in failed:
        console.print(str(one), markup=False)
    covered = [one.gap for one in found if one.servers == 1 and one.standby and one.gap is not None]
    second = [one.gap for one in found if one.servers == 2 and one.gap is not None]
    alone = [one.gap for one in found if not one.standby and not one.agent_dies and one.gap is not None]
    dead = sum(one.agent_dies for one in found)
    return [
        Row(
            f"active server killed at every tenth of a second of a deploy, {len(found)} cases, "
            f"{sum(one.hangs for one in found)} with a proof that hangs, the agent dead in {dead}: failures",
            len(failed),
            "0",
            not failed and bool(covered) and bool(alone) and bool(second),
        ),
        Row(
            f"with a second server in the slot ({len(second)} cases): longest time to the next answer, s",
            round(max(second, default=0.0), 2),
            f"at most {WITHIN_SECONDS:g}",
            bool(second) and max(second) <= WITHIN_SECONDS,
        ),
        Row(
            f"with a standby alone ({len(covered)} cases): longest time to the next answer, s",
            round(max(covered, default=0.0), 2),
            f"at most {WITHIN_SECONDS:g}",
            bool(covered) and max(covered) <= WITHIN_SECONDS,
        ),
        Row(
            f"without one, the agent alive ({len(alone)} cases): longest time to the next answer, a start in it, s",
            round(max(alone, default=0.0), 2),
            f"at most {START_SECONDS:g}",
            bool(alone) and max(alone) <= START_SECONDS,
        ),
    ]


def cases(servers: int) -> Iterator[Outage]:
    """Of slots of so many servers, until a deploy has ended before its kill came; one that hangs never ends."""
    names = [publish_fake(f"{name}-{servers}") for name in ("one", "two", "three")]
    several = two_servers_a_slot() if servers == 2 else {}
    settings = {"supervision": {"backoff_seconds": 0, "max_crashes": 90}, "state_dir": f"state-{servers}"}
    env = fake_environment(**settings, **several)
    try:
        for name in names[:2]:
            deploy(env, name)
        for hangs in (False, True):
            for number in range(int((HANGING_SECONDS if hangs else LONGEST_DEPLOY_SECONDS) / TENTH)):
                state = env.record.state()
                served = [state.release_of(slot) for slot in ("blue", "green")]
                new = next(name for name in names if name not in served)
                found = outage(env, new, number * TENTH, hangs=hangs, agent_dies=bool(number % 2))
                if found is None:
                    break
                console.print(f"{found}", markup=False)
                yield found
    finally:
        stop_all(env)


def outage(env: Environment, new: str, after: float, *, hangs: bool, agent_dies: bool) -> Outage | None:
    """None where the deploy was over before."""
    if hangs:
        misbehave(Path.cwd(), **{new.partition("@")[0]: "hang"})
    child = deploy_in_child(env, new)
    began = time.monotonic()
    while time.monotonic() - began < after:
        if os.waitpid(child, os.WNOHANG) != (0, 0):
            return None
        time.sleep(0.005)
    if agent_dies:
        os.kill(child, signal.SIGKILL)
    state = env.record.state()
    active = env.router.active() or state.active
    assert active
    process = env.process(state, active)
    servers = [one for one in env.processes(state, active) if is_alive(one)]
    standby = other(active) in env.router.standbys() or len(servers) > 1
    if process is None:  # between two events
        standby = True
    else:
        kill(process)
    limit = WITHIN_SECONDS if standby else 0.5 if agent_dies else START_SECONDS
    gap, failures = next_answer(env, limit), []
    if gap is None and (standby or not agent_dies):
        failures.append(f"no answer within {limit:g} s")
    misbehave(Path.cwd())
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(child, 0)
    try:
        deploy(env, new)
    except Exception as error:  # whatever keeps the next command from converging is a finding
        failures.append(f"next command: {error}")
    if next_answer(env, WITHIN_SECONDS) is None or env.record.state().release_of(env.record.state().active) != new:
        failures.append("the next command did not converge")
    return Outage(round(after, 1), hangs, agent_dies, env.config.slots.servers, standby, gap, tuple(failures))


def deploy_in_child(env: Environment, reference: str) -> int:
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            deploy(env, reference)
            code = 0
        except BaseException as error:
            print(f"  {type(error).__name__}: {str(error)[:120]}", flush=True)
        finally:
            os._exit(code)
    return child


def next_answer(env: Environment, seconds: float) -> float | None:
    """Seconds until a request is answered; every answer must be of a release that was proven here."""
    found: list[float] = []
    began = time.monotonic()
    body = {"model": env.config.model, "messages": [{"role": "user", "content": "question 0"}], "max_tokens": 2}
    headers = {"Authorization": f"Bearer {api_key(env.config)}"}

    def is_answered() -> bool:
        try:
            reply = httpx.post(
                f"{env.router.base_url}/v1/chat/completions", json=body, headers=headers, timeout=2, verify=False
            )
        except httpx.HTTPError:
            return False
        if reply.status_code == 200:
            found.append(time.monotonic() - began)
        return bool(found)

    wait_until(is_answered, seconds + 0.5)
    return found[0] if found and found[0] <= seconds else None
