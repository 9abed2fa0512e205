"""Kill enumeration: a deploy in a child process whose every effect and every line of the record is a point at which
something is killed by SIGKILL.

The router is the real HAProxy, the slots are the fake vLLM of this folder, the kills are real. `enumerate_kills` is
called by the tests and by the benchmark; each case says what was seen while it was broken and after the next run.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from multiprocessing import Value
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import httpx

import serve.deploy
import serve.switch.servers
import serve.switch.shared_server
import serve.switch.traffic
from infra.haproxy.api_keys import api_key
from infra.haproxy.router import Router
from infra.vllm.server import SlotProcess, is_alive
from serve.deploy import deploy, stop_all
from serve.record.environment import Environment
from serve.record.event import PROOF
from serve.record.record import Record
from tests.support.fake_servers import fake_environment, fake_world, publish_fake
from tests.support.judging import judged_when_asked

Victim = Literal["agent", "torn", "green", "blue", "haproxy"]
STRATEGIES: dict[str, dict[str, Any]] = {
    "blue-green": {},
    "canary": {"strategy": {"kind": "canary", "steps": [20, 60, 100], "bake_seconds": 0}},
    "swap": {"capacity": "swap"},
    "adapter": {"capacity": "adapter"},
}
EFFECTS: tuple[tuple[Any, str], ...] = (
    *(
        (Router, name)
        for name in ("start", "switch", "set_weights", "pause", "resume", "set_release", "set_server", "set_standbys")
    ),
    *((serve.switch.servers, name) for name in ("start_slot", "stop_slot", "load_adapter", "reap_orphan", "prove")),
    *((serve.switch.shared_server, name) for name in ("stop_slot", "unload_adapter")),
    (serve.switch.traffic, "wait_for_slot"),
)
USERS = 12
MOST_POINTS = 200


@dataclass(frozen=True)
class Case:
    """`failures` is empty where, after the kill, what answered was proven and of one release, and the next run
    converged."""

    strategy: str
    victim: Victim
    point: int
    at: str
    failures: tuple[str, ...]


class Points:
    """Counts the points of a deploy in the child; at the wanted one it kills the victim."""

    def __init__(self, env: Environment, victim: Victim, wanted: int) -> None:
        self.env, self.victim, self.wanted = env, victim, wanted
        self.agent, self.seen = os.getpid(), Value("i", 0)  # the tasks, which are processes of their own, count on
        append = Record.append

        def recorded(record: Record, kind: Any, *rest: Any, **facts: Any) -> Any:
            name = f"{kind} {facts.get('proof', facts.get('weight', ''))}".strip()
            if self.victim in ("agent", "torn"):
                self.point(f"{'in' if self.victim == 'torn' else 'before'} {name}")
            event = append(record, kind, *rest, **facts)
            if self.victim not in ("agent", "torn"):
                self.point(f"after {name}")
            return event

        setattr(Record, "append", recorded)  # noqa: B010  # in the child only; mypy knows no other signature
        if victim == "agent":
            for owner, name in EFFECTS:
                setattr(owner, name, self.around(name, getattr(owner, name)))

    def around(self, name: str, effect: Callable[..., Any]) -> Callable[..., Any]:
        """Before each: after one and before the next is the same moment, and the last line of the record comes after
        all of them."""

        def wrapped(*arguments: Any, **facts: Any) -> Any:
            self.point(f"before {name}")
            return effect(*arguments, **facts)

        return wrapped

    def point(self, name: str) -> None:
        with self.seen.get_lock():
            self.seen.value += 1
            if self.seen.value != self.wanted:
                return
        Path("point").write_text(name)
        if self.victim == "torn":
            with self.env.record.path.open("a") as stream:
                stream.write('{"at": "2026')
        if self.victim in ("agent", "torn"):
            os.kill(self.agent, signal.SIGKILL)
            time.sleep(60)  # a task of it: that it was killed, and in time, is what is to be seen
        self.kill_other()

    def kill_other(self) -> None:
        """Blue is what served when the deploy began, green the slot that it starts, whatever their names are by now."""
        state = self.env.record.state()
        serving = Path("serving").read_text()
        if self.victim == "haproxy":
            pid = Router(self.env.config).pid()
            if pid:
                os.kill(pid, signal.SIGKILL)
                wait_until(lambda: not self.env.router.is_running())
            return
        for slot, found in state.slots.items():
            process = self.env.process(state, slot)
            if found and process and (found.release == serving) == (self.victim == "blue"):
                kill(process)


def kill(process: SlotProcess) -> None:
    if is_alive(process):
        os.killpg(process.pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(process))


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)


def deploy_in_child(env: Environment, reference: str, victim: Victim, wanted: int) -> str | None:
    """What was being done when the victim was killed; None where the deploy had fewer points."""
    Path("point").unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            Points(env, victim, wanted)
            deploy(env, reference)
            code = 0
        finally:
            os._exit(code)
    os.waitpid(child, 0)
    return Path("point").read_text() if Path("point").exists() else None


def look(env: Environment, proven: set[str], *, may_wait: bool) -> list[str]:
    """Each user asks twice: every answer is a good one of a proven release, and each user meets one release only."""
    failures: list[str] = []
    with httpx.Client(
        headers={"Authorization": f"Bearer {api_key(env.config)}"}, timeout=0.5 if may_wait else 20
    ) as client:
        for user in range(USERS):
            try:
                answers = [ask(client, env, f"user-{user}") for _ in range(2)]
            except httpx.TimeoutException:
                return failures if may_wait and env.router.is_paused() else [*failures, "no answer"]
            except httpx.HTTPError as error:
                return [*failures, type(error).__name__]
            failures += [f"HTTP {one.status_code}" for one in answers if one.status_code != 200]
            releases = {one.headers.get("x-tunegate-release") for one in answers}
            failures += [f"answered by {releases}"] if len(releases) != 1 or not releases <= proven else []
    return failures


def ask(client: httpx.Client, env: Environment, user: str) -> httpx.Response:
    body = {"model": env.config.model, "messages": [{"role": "user", "content": "question 0"}], "max_tokens": 2}
    return client.post(f"{env.router.base_url}/v1/chat/completions", json=body, headers={"x-tunegate-sticky": user})


def proven_digests(env: Environment) -> set[str]:
    """By the record: every release of which some slot showed every proof."""
    found = set[str]()
    running: dict[str | None, tuple[str, set[str]]] = {}
    for event in env.record.read():
        if event.kind == "starting":
            running[event.slot] = (event.facts["release"], set())
        if event.kind == "proven" and event.slot in running:
            running[event.slot][1].add(event.facts["proof"])
            if running[event.slot][1] >= set(PROOF):
                found.add(running[event.slot][0].partition("@")[2])
    return found


class Waiting(threading.Thread):
    """A request that is sent while all is broken: in a swap it must be answered once the next run has converged."""

    def __init__(self, env: Environment) -> None:
        super().__init__(daemon=True)
        self.env, self.found = env, "no answer"

    def run(self) -> None:
        try:
            with httpx.Client(headers={"Authorization": f"Bearer {api_key(self.env.config)}"}, timeout=60) as client:
                self.found = str(ask(client, self.env, "waiting").status_code)
        except httpx.HTTPError as error:
            self.found = type(error).__name__


def run_case(env: Environment, strategy: str, victim: Victim, point: int, old: str, new: str) -> Case | None:
    """`old` serves; `new` is deployed and something killed; then the same command again."""
    Path("serving").write_text(old)
    at = deploy_in_child(env, new, victim, point)
    if at is None:
        return None
    failures = []
    if victim in ("agent", "torn"):
        failures += [f"broken: {one}" for one in look(env, proven_digests(env), may_wait=strategy == "swap")]
    waiting = Waiting(env)
    if env.router.is_running() and victim in ("agent", "torn"):
        waiting.start()
    try:
        deploy(env, new)
    except Exception as error:  # whatever keeps the next run from converging is a finding
        failures.append(f"next run: {error}")
    if waiting.ident:
        waiting.join(60)
        failures += [] if waiting.found == "200" else [f"a request that waited: {waiting.found}"]
    failures += [f"after: {one}" for one in look(env, {new.partition("@")[2]}, may_wait=False)]
    state = env.record.state()
    if state.release_of(state.active) != new or state.moves.switching or state.moves.swapping or not state.baked:
        failures.append(f"after: not converged, {state}")
    return Case(strategy, victim, point, at, tuple(failures))


def enumerate_kills(
    folder: Path, strategy: str, victim: Victim, say: Callable[[str], object] = lambda line: None
) -> list[Case]:
    """Every point of a deploy under `strategy`, one case each; the deployments take turns between the same two
    releases."""
    with chdir(folder), patch.dict(os.environ, fake_world(folder)), judged_when_asked():
        return enumerate_here(strategy, victim, say)


def enumerate_here(strategy: str, victim: Victim, say: Callable[[str], object]) -> list[Case]:
    base = "base" if strategy == "adapter" else None
    releases = [publish_fake("one", base=base), publish_fake("two", base=base)]
    env = fake_environment(
        keep_old_slot=False, supervision={"backoff_seconds": 0, "max_crashes": 50}, **STRATEGIES[strategy]
    )
    cases: list[Case] = []
    try:
        deploy(env, releases[0])
        for point in range(1, MOST_POINTS):
            old, new = releases[(point - 1) % 2], releases[point % 2]
            case = run_case(env, strategy, victim, point, old, new)
            if case is None:
                return cases
            cases.append(case)
            say(f"{strategy} {victim} {point} {case.at}: {', '.join(case.failures) or 'holds'}")
        raise AssertionError(f"a deploy has more than {MOST_POINTS} points")
    finally:
        stop_all(env)
