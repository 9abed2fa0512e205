"""The machine's clock is set forwards and back, while an environment serves and while a deploy is under way: nothing
that serves is touched, and the deploy ends as it would have.

It sets the clock of this machine, for seconds, and puts it right by the monotonic one. The router is the real HAProxy,
the servers are the fake vLLM of the tests.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from unittest.mock import patch

import httpx

from benchmarks.prove import Row, console
from benchmarks.serve.outages import deploy_in_child
from configs.slots import other
from infra.haproxy.api_keys import api_key
from serve.agent import Agent
from serve.deploy import deploy, stop_all
from serve.record.environment import Environment
from tests.support.fake_servers import fake_environment, fake_world, publish_fake
from tests.support.judging import judged_when_asked

Moment = Literal["serving", "deploy"]
STEPS = (1, -1, 3600, -3600)  # seconds
BEFORE_SECONDS, AFTER_SECONDS = 1.5, 5.0  # of a case, around the step
DEPLOY_SECONDS = 60.0


@dataclass(frozen=True)
class Stepped:
    """One case; empty `failures`: it holds."""

    seconds: int
    moment: Moment
    failures: tuple[str, ...]


@dataclass
class Caller:
    """Asks twenty times a second; `wrong`: what was not answered with 200."""

    env: Environment
    asked: int = 0
    wrong: list[str] = field(default_factory=list)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        end = threading.Event()
        thread = threading.Thread(target=self.ask, args=(end,))
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()

    def ask(self, end: threading.Event) -> None:
        headers = {"Authorization": f"Bearer {api_key(self.env.config)}"}
        body = {"model": self.env.config.model, "messages": [{"role": "user", "content": "question 0"}]}
        with httpx.Client(base_url=self.env.router.base_url, headers=headers, timeout=10, verify=False) as client:
            while not end.wait(0.05):
                self.asked += 1
                try:
                    status = client.post("/v1/chat/completions", json=body).status_code
                except httpx.HTTPError as error:
                    self.wrong.append(type(error).__name__)
                    continue
                if status != 200:
                    self.wrong.append(str(status))


def rows() -> list[Row]:
    title = "clock set by ±1 s and ±1 h while serving and while deploying"
    try:
        time.clock_settime(time.CLOCK_REALTIME, time.time())
    except PermissionError:
        return [Row(f"{title}: failures", "not run: no right to set the clock", "0", False)]
    with (
        tempfile.TemporaryDirectory() as folder,
        chdir(folder),
        patch.dict(os.environ, fake_world(Path(folder))),
        judged_when_asked(),
    ):
        found = list(cases())
    failed = [one for one in found if one.failures]
    for one in failed:
        console.print(str(one), markup=False)
    return [Row(f"{title}, {len(found)} cases: failures", len(failed), "0", not failed)]


def cases() -> Iterator[Stepped]:
    names = [publish_fake(name) for name in ("one", "two")]
    quick = {"backoff_seconds": 0, "interval_seconds": 0.2, "probe_failures": 2}
    env = fake_environment(supervision=quick, bake_seconds=2, keep_old_slot=True)
    try:
        deploy(env, names[0])
        for seconds in STEPS:
            yield while_serving(env, seconds)
            serves = env.record.state().release_of(env.record.state().active)
            yield while_deploying(env, next(name for name in names if name != serves), seconds)
    finally:
        stop_all(env)


def while_serving(env: Environment, seconds: int) -> Stepped:
    """Under an agent that looks after it."""
    agent = os.fork()
    if agent == 0:
        with suppress(BaseException):
            Agent(env, lambda: env.config).run(0.2)
        os._exit(0)
    try:
        return step_under(env, seconds, "serving", [])
    finally:
        os.kill(agent, signal.SIGKILL)
        os.waitpid(agent, 0)


def while_deploying(env: Environment, new: str, seconds: int) -> Stepped:
    failures: list[str] = []
    child = deploy_in_child(env, new)
    found = step_under(env, seconds, "deploy", failures, child)
    state = env.record.state()
    if state.release_of(state.active) != new:
        found = Stepped(seconds, "deploy", (*found.failures, f"{state.active} serves {state.release_of(state.active)}"))
    return found


def step_under(
    env: Environment, seconds: int, moment: Moment, failures: list[str], child: int | None = None
) -> Stepped:
    """Asked all the while; the clock is right again afterwards. `child`: a deploy, which is waited for."""
    active = env.record.state().active
    assert active
    serving, crashes = env.process(env.record.state(), active), count_crashes(env)
    caller = Caller(env)
    with caller.at_work(), set_back():
        time.sleep(BEFORE_SECONDS)
        before, monotonic = time.time(), time.monotonic()
        time.clock_settime(time.CLOCK_REALTIME, before + seconds)
        time.sleep(AFTER_SECONDS)
        moved = (time.time() - before) - (time.monotonic() - monotonic)
        if abs(moved - seconds) > 0.5:
            failures.append(f"the clock went by {moved:.1f} s: somebody else sets it too")
        if child is not None and exit_code(child, DEPLOY_SECONDS) != 0:
            failures.append("the deploy failed")
    if caller.wrong:
        failures.append(f"{len(caller.wrong)} of {caller.asked} requests: {', '.join(sorted(set(caller.wrong)))}")
    state = env.record.state()
    if env.process(state, active) != serving and env.process(state, other(active)) != serving:
        failures.append("the server that served is another one now")
    if count_crashes(env) > crashes:
        failures.append(f"{count_crashes(env) - crashes} crashes on record")
    found = Stepped(seconds, moment, tuple(failures))
    console.print(str(found), markup=False)
    return found


@contextmanager
def set_back() -> Iterator[None]:
    began, monotonic = time.time(), time.monotonic()
    try:
        yield
    finally:
        time.clock_settime(time.CLOCK_REALTIME, began + time.monotonic() - monotonic)


def count_crashes(env: Environment) -> int:
    return sum(event.kind == "crashed" for event in env.record.read())


def exit_code(child: int, seconds: float) -> int | None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None
