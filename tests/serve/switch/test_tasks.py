"""A task is a process of its own: it reports, fails, hangs and dies without its parent, which never waits for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from configs.errors import InputError, RefusedError
from infra.boot import ProcessId, identify, is_alive
from infra.router_pods.calls import SilentError
from serve.plan.action import Action
from serve.record.environment import Environment
from serve.switch.tasks import Ended, LostError, Tasks
from tests.support.fake_machine import environment

pytestmark = pytest.mark.unit
PROVE = Action("prove", "green", proof="warm")


def do(action: Action, env: Environment) -> None:
    """What the action's `why` says."""
    note(os.getpid())
    match action.why:
        case "refuse":
            raise RefusedError("no good", hint="look again")
        case "input":
            raise InputError("wrong")
        case "silent":
            raise SilentError("a router does not answer", hint="kubectl logs")
        case "disk":
            raise OSError(28, "No space left on device")
        case "bug":
            raise KeyError("what")
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            server = subprocess.Popen(["sleep", "60"], start_new_session=True)
            note(child.pid)
            note(server.pid)
            env.report_progress("hangs")
            time.sleep(60)
    env.report_progress(f"did {action.kind} for {env.config.model}")


def note(pid: int) -> None:
    with Path("pids").open("a") as stream:
        stream.write(f"{pid}\n")


def wait_until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.01)


def ended(tasks: Tasks) -> Ended:
    found: list[Ended] = []
    wait_until(lambda: found.extend(filter(None, [tasks.poll()])) or found)
    return found[0]


def processes() -> list[ProcessId]:
    """The task, what it started, and what it started in a session of its own."""
    wait_until(lambda: Path("pids").exists() and len(Path("pids").read_text().split()) == 3)
    found = [identify(int(pid)) for pid in Path("pids").read_text().split()]
    return [one for one in found if one]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> Environment:
    monkeypatch.chdir(tmp_path)
    return Environment(environment().config, said.append)


@pytest.fixture
def tasks(env: Environment) -> Iterator[Tasks]:
    with Tasks(env, do) as found:
        yield found


def test_its_lines_and_its_end_come_back_and_the_next_may_begin(
    tasks: Tasks, env: Environment, said: list[str]
) -> None:
    for model in ("one", "two"):
        tasks.begin(PROVE, env.config.model_copy(update={"model": model}))
        assert tasks.action == PROVE
        assert ended(tasks) == Ended(PROVE, None) and tasks.action is None and tasks.poll() is None
    assert said == ["did prove for one", "did prove for two"]
    pids = Path("pids").read_text().split()
    assert len({*pids, str(os.getpid())}) == 3


@pytest.mark.parametrize(
    ("why", "kind", "message", "hint"),
    [
        ("refuse", "RefusedError", "no good", "look again"),
        ("input", "InputError", "wrong", None),
        ("silent", "UnreachableError", "a router does not answer", "kubectl logs"),
        ("disk", "ExternalError", "prove: [Errno 28] No space left on device", "df -h state"),
        ("bug", "ExternalError", "prove: KeyError: 'what'", None),
        ("die", "LostError", "its process ended by itself, with status -9", None),
    ],
)
def test_what_it_failed_with_is_the_same_error_here(
    tasks: Tasks, env: Environment, why: str, kind: str, message: str, hint: str | None
) -> None:
    tasks.begin(Action("prove", "green", why=why), env.config)
    error = ended(tasks).error
    assert error and (type(error).__name__, error.message, error.hint) == (kind, message, hint)


@pytest.mark.parametrize("how", ["cancel", "leave"])
def test_ended_early_it_takes_along_what_it_started_but_no_server(env: Environment, how: str, said: list[str]) -> None:
    with Tasks(env, do) as tasks:
        tasks.begin(Action("prove", "green", why="hang"), env.config)
        task, child, server = processes()
        if how == "cancel":
            began = time.monotonic()
            tasks.cancel()
            assert tasks.action is None and time.monotonic() - began < 1 and not is_alive(task)
            tasks.begin(PROVE, env.config)
            assert ended(tasks).error is None
    wait_until(lambda: not is_alive(child) and not is_alive(task))
    assert is_alive(server)
    os.kill(server.pid, signal.SIGKILL)


def test_nothing_works_on_for_a_parent_that_was_killed(env: Environment) -> None:
    parent = os.fork()
    if parent == 0:
        with Tasks(env, do) as tasks:
            tasks.begin(Action("prove", "green", why="hang"), env.config)
            time.sleep(60)
        os._exit(0)
    task, child, server = processes()
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    wait_until(lambda: not is_alive(task) and not is_alive(child))
    assert is_alive(server)
    os.kill(server.pid, signal.SIGKILL)


def test_a_runner_that_is_killed_is_replaced_and_its_task_was_lost(tasks: Tasks, env: Environment) -> None:
    tasks.begin(Action("prove", "green", why="hang"), env.config)
    task, child, server = processes()
    os.kill(tasks.runner, signal.SIGKILL)
    error = ended(tasks).error
    assert isinstance(error, LostError) and tasks.action is None
    wait_until(lambda: not is_alive(task))
    for one in (child, server):
        os.kill(one.pid, signal.SIGKILL)
    tasks.begin(PROVE, env.config)
    assert ended(tasks).error is None
