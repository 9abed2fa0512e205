"""After a deploy by hand somebody stays: over the real router, the fake vLLM, and the command line itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.errors import InputError
from configs.read import read_environment
from infra.haproxy.router import Router
from serve.deploy import stop_all
from serve.record.environment import BusyError, Environment, holder_of, locked
from tests.paths import ROOT
from tests.support.agent_scene import Scene, digest, folder
from tests.support.fake_servers import publish_fake
from tests.support.judging import judged_when_asked
from tests.support.kills import kill, wait_until

__all__ = ["folder"]
pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


class Checkout:
    """configs/deploy/x.yaml, and commands typed there."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.path = scene, Path("configs/deploy/x.yaml")
        self.path.parent.mkdir(parents=True)
        self.write()

    def write(self, **facts: object) -> None:
        import yaml

        settings = self.scene.config.model_dump(mode="json", exclude_unset=True) | facts
        self.path.write_text(yaml.safe_dump(settings))

    def run(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "tunegate", *words],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": f"{os.environ['PYTHONPATH']}:{ROOT}"},
        )
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    def supervisor(self) -> int | None:
        found = holder_of(self.scene.env)
        return found["pid"] if found and found["command"] == "supervisor" else None


@pytest.fixture
def checkout(folder: Path) -> Iterator[Checkout]:
    scene = Scene()
    with judged_when_asked():
        yield Checkout(scene)
        stop_all(scene.env)


def serve_one(checkout: Checkout) -> str:
    """By a turn, which holds the verdict good; then a command that leaves somebody."""
    one = publish_fake("one")
    checkout.scene.want(one)
    checkout.scene.turn()
    checkout.write(release=one)
    checkout.run("hold", "x")
    wait_until(lambda: checkout.supervisor() is not None)
    return one


def test_what_dies_after_the_command_has_ended_is_brought_back(checkout: Checkout) -> None:
    one = serve_one(checkout)
    kill(checkout.scene.server("blue"))
    wait_until(lambda: checkout.scene.serving() == digest(one), 20)
    os.kill(Router(checkout.scene.env.config).pid() or 0, signal.SIGKILL)
    wait_until(lambda: checkout.scene.env.router.is_running() and checkout.scene.serving() == digest(one), 20)
    assert "supervisor" in checkout.run("status", "x")


def test_the_next_command_takes_over_and_leaves_another_and_stop_leaves_none(checkout: Checkout) -> None:
    serve_one(checkout)
    first = checkout.supervisor()
    assert "supervisor" in checkout.run("resume", "x")
    wait_until(lambda: checkout.supervisor() not in (None, first))
    checkout.run("stop", "x")
    assert holder_of(checkout.scene.env) is None and not checkout.scene.env.router.is_running()


def test_it_takes_up_no_change_of_the_yaml_and_two_do_not_displace_each_other(checkout: Checkout) -> None:
    one = serve_one(checkout)
    checkout.write(release=publish_fake("two"))
    before = checkout.scene.kinds()
    with pytest.raises(BusyError), locked(Environment(read_environment("x")), "supervisor"):
        pass
    pid = checkout.supervisor()
    checkout.run("agent", "x", "--supervise", code=2)
    assert checkout.scene.kinds() == before and checkout.supervisor() == pid
    assert checkout.scene.serving() == digest(one)


def test_told_otherwise_nobody_stays(checkout: Checkout) -> None:
    one = publish_fake("one")
    checkout.scene.want(one)
    checkout.scene.turn()
    checkout.write(release=one, supervision={"stay": False})
    assert "watches over" not in checkout.run("hold", "x")
    assert holder_of(checkout.scene.env) is None


def test_an_agent_that_was_started_as_one_is_not_displaced(checkout: Checkout) -> None:
    with locked(checkout.scene.env, "agent"), pytest.raises((BusyError, InputError)), locked(checkout.scene.env):
        pass
