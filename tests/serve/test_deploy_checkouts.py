"""Two copies of a checkout on one machine mean one environment: over the real router and the fake vLLM, in a home
whose path is longer than a socket's may be."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import pytest

from configs.environment.state import home_of
from configs.errors import RefusedError
from infra.haproxy.api_keys import api_key
from infra.haproxy.router import Router
from infra.vllm.server import is_alive
from serve.deploy import deploy, rollback, stop_all
from serve.record.environment import Environment, holder_of
from tests.support.agent_scene import Scene, in_child
from tests.support.fake_servers import fake_environment, fake_world, publish_fake
from tests.support.judging import judged_when_asked

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
OLD = "build/deploy/x"


@dataclass
class Copies:
    """`here` is the working directory; both hold the releases `one` and `two`."""

    here: Path
    there: Path
    env: Environment
    one: str = ""
    two: str = ""

    def moved_to(self, folder: str | None) -> Environment:
        config = self.env.config.model_copy(update={"state_dir": folder})
        return Environment(config, self.env.report_progress)

    def answers(self) -> str:
        reply = httpx.get(
            f"{self.env.router.base_url}/v1/models",
            headers={"Authorization": f"Bearer {api_key(self.env.config)}"},
            timeout=5,
        )
        return reply.headers.get("x-tunegate-release", str(reply.status_code))

    def kinds(self, kind: str) -> list[Any]:
        return [event for event in self.env.record.read() if event.kind == kind]


@pytest.fixture
def copies(tmp_path: Path) -> Iterator[Copies]:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    variables = fake_world(tmp_path) | {"TUNEGATE_STATE_HOME": str(tmp_path / ("deep" * 40) / "state")}
    said: list[str] = []
    with chdir(here), patch.dict(os.environ, variables), judged_when_asked():
        found = Copies(here, there, Environment(fake_environment(state_dir=None).config, said.append))
        found.one, found.two = publish_fake("one"), publish_fake("two")
        shutil.copytree(here, there)
        yield found
        stop_all(found.env)


def digest(reference: str) -> str:
    return reference.partition("@")[2]


def test_a_deploy_in_another_copy_goes_on_with_what_serves_and_starts_no_second_stack(copies: Copies) -> None:
    deploy(copies.env, copies.one)
    router, blue = Router(copies.env.config).pid(), copies.env.process(copies.env.record.state(), "blue")
    assert len(str(copies.env.router.folder / "admin.sock")) > 160
    assert home_of("x").stat().st_mode & 0o777 == 0o700
    with chdir(copies.there):
        assert copies.answers() == digest(copies.one)
        deploy(copies.env, copies.two)
        assert copies.answers() == digest(copies.two) and Router(copies.env.config).pid() == router
    assert blue and is_alive(blue), "which the other copy keeps warm"
    rollback(copies.env)
    assert copies.answers() == digest(copies.one) and len(copies.kinds("starting")) == 2


def test_where_an_agent_of_another_copy_is_it_does_the_work(copies: Copies) -> None:
    scene = Scene(state_dir=None)
    scene.env, scene.config = copies.env, copies.env.config
    child = in_child(scene)
    try:
        with chdir(copies.there):
            assert deploy(copies.env, copies.one)["release"] == copies.one
        holder = holder_of(copies.env)
        assert holder and holder["pid"] == child and holder["checkout"] == str(copies.here)
        assert [event.facts["command"] for event in copies.kinds("acquired")] == ["agent"]
        process = copies.env.process(copies.env.record.state(), "blue")
        assert process and Path(f"/proc/{process.pid}/cwd").resolve() == copies.here
        yaml = copies.here / "configs/deploy/x.yaml"
        yaml.parent.mkdir(parents=True)
        yaml.write_text(f"name: x\nmodel: m\nrelease: {copies.one}\n")
        with chdir(copies.there), pytest.raises(RefusedError, match="would go back to that at once"):
            deploy(copies.env, copies.two)
        assert copies.answers() == digest(copies.one) and len(copies.kinds("desired")) == 1
    finally:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)


def test_what_serves_from_the_old_place_serves_on_and_moves_once_it_has_ended(
    copies: Copies, capsys: pytest.CaptureFixture[str]
) -> None:
    before = copies.moved_to(OLD)
    deploy(before, copies.one)
    router, inode = Router(before.config).pid(), before.record.path.stat().st_ino
    deploy(copies.env, copies.two)
    said = capsys.readouterr().err
    assert said.count("stays in") == 1 and "tunegate stop x" in said
    assert copies.answers() == digest(copies.two) and Router(copies.env.config).pid() == router
    with chdir(copies.there):
        assert rollback(copies.env)["release"] == copies.one
        assert "stays in" in capsys.readouterr().err
        assert copies.env.record.path.stat().st_ino == inode
    stop_all(copies.env)
    assert Path(OLD).is_dir() and home_of("x").is_symlink()
    capsys.readouterr()
    deploy(copies.env, copies.one)
    assert "was moved from" in capsys.readouterr().err
    assert not Path(OLD).exists() and not home_of("x").is_symlink()
    assert copies.env.record.path.stat().st_ino == inode and copies.answers() == digest(copies.one)


def test_an_agent_whose_yaml_no_longer_says_the_old_place_goes_on_there(copies: Copies) -> None:
    """And another copy then finds what it serves; a YAML that says another folder is another environment."""
    scene = Scene(state_dir=OLD)
    scene.env, scene.config = copies.moved_to(OLD), copies.moved_to(OLD).config
    scene.agent = scene.new_agent()
    scene.want(copies.one)
    with scene.at_work():
        scene.agent.turn_to_end()
        scene.want(copies.two, state_dir=None)
        scene.agent.turn_to_end()
        assert copies.answers() == digest(copies.two) and Path(OLD).is_dir()
        with chdir(copies.there):
            assert copies.env.record.state().active
        scene.want(copies.one, state_dir="elsewhere")
        scene.agent.turn_to_end()
        assert copies.answers() == digest(copies.two) and not Path("elsewhere").exists()
    assert any("state_dir changed: the state would be elsewhere" in line for line in scene.said)
