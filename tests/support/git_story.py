"""A clone of a real remote with the real agent in it, over the real router and the fake vLLM; GitLab is the server of
tests/support/gitlab_server.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from configs.environment.config import DeployConfig
from infra.haproxy.api_keys import api_key
from serve.deploy import stop_all
from serve.record.champion import last_served
from serve.record.environment import Environment
from tests.paths import ROOT
from tests.support.fake_servers import fake_environment, fake_world, publish_fake
from tests.support.git_remote import QUIET, Remote
from tests.support.gitlab_server import gitlab_server
from tests.support.gitlab_world import TOKEN, World
from tests.support.judging import GATE, bound_verdict, verdict_path

YAML = "configs/deploy/x.yaml"
RELEASE_GATE = Path("release_gate.yaml")
QUICK = {"interval_seconds": 0.5, "backoff_seconds": 0}
PATIENCE_SECONDS = 400  # of a machine that has much else to do; nothing here is timed


@dataclass
class Story:
    """`one`, `two` and `three` are published in the clone; a `push` of one of them is a commit of Ada's."""

    folder: Path
    gitlab: World
    facts: dict[str, Any] = field(default_factory=dict)
    agents: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def begin(self) -> Story:
        """In the clone from here on, as the agent will be."""
        self.remote = Remote(self.folder / "git")
        self.config: DeployConfig = fake_environment(
            **{"supervision": QUICK, "release_gate": str(RELEASE_GATE)} | self.facts
        ).config
        self.remote.begin(
            {YAML: self.yaml(None), str(RELEASE_GATE): GATE.read_text(), ".gitignore": "/state/\n/releases/\n"}
        )
        os.chdir(self.remote.clone)
        # A registry that is down at once: a command waits for one that is slow.
        os.environ.update(
            fake_world(self.folder)
            | QUIET
            | {
                "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
                "CI_SERVER_URL": self.gitlab.url,
                "CI_PROJECT_ID": "35",
                "TUNEGATE_GITLAB_TOKEN": TOKEN,
            }
        )
        self.one, self.two, self.three = (publish_fake(name) for name in ("one", "two", "three"))
        return self

    def yaml(self, release: str | None) -> str:
        settings = self.config.model_dump(mode="json", exclude={"release"}, exclude_defaults=True)
        return "".join(
            [
                *(f"{name}: {json.dumps(value)}\n" for name, value in settings.items()),
                f"release: {release or 'null'}  # the pin\n",
            ]
        )

    def push(self, release: str | None, key: Path | None = None, *, force: bool = False) -> str:
        """Judged by then against what serves, as its pipeline would."""
        if release and verdict_path(release).exists():
            champion = last_served(self.config)
            bound_verdict(release, self.config.name, RELEASE_GATE, champion).write(verdict_path(release))
        return self.remote.push({YAML: self.yaml(release)}, key, force=force)

    @property
    def env(self) -> Environment:
        return Environment(self.config)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, str(ROOT / "tunegate.py"), *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*arguments), capture_output=True, text=True)

    def agent(self, *more: str) -> subprocess.Popen[bytes]:
        """In a process of its own, looking twice a second."""
        arguments = ("agent", "x", "--pull", "origin/main", "--interval", "0.5", "--poll", "0.5", *more)
        with (self.folder / "agent.err").open("ab") as words:
            self.agents.append(
                subprocess.Popen(self.command(*arguments), stdout=words, stderr=words, start_new_session=True)
            )
        return self.agents[-1]

    def end(self, sign: int = signal.SIGTERM) -> None:
        for process in self.agents:
            if process.poll() is None:
                os.kill(process.pid, sign)
            process.wait(PATIENCE_SECONDS)
        self.agents.clear()

    def close(self) -> None:
        self.end(signal.SIGKILL)
        stop_all(self.env)

    def said(self) -> str:
        return (self.folder / "agent.err").read_text()

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("status", "x", "--json").stdout)
        return found

    def serving(self) -> str:
        """The release that a client is answered by; else why it is not."""
        try:
            reply = httpx.get(
                f"{self.env.router.base_url}/v1/models",
                headers={"Authorization": f"Bearer {api_key(self.config)}"},
                timeout=5,
            )
        except httpx.HTTPError as error:
            return type(error).__name__
        return (
            reply.headers.get("x-tunegate-release", "unnamed")
            if reply.status_code == 200
            else f"HTTP {reply.status_code}"
        )

    def serves(self, release: str) -> bool:
        return self.serving() == digest(release)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.env.record.read()]

    def eventually(self, holds: Callable[[], object], what: str) -> None:
        """At once where nobody is left who could make it hold."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (
            not (held := holds())
            and time.monotonic() < deadline
            and any(process.poll() is None for process in self.agents)
        ):
            time.sleep(0.2)
        assert held or holds(), f"never: {what}\n{self.said()}"

    def settled(self, release: str) -> bool:
        """It serves, came through its bake, and nothing is under way."""
        state = self.env.record.state()
        return (
            state.release_of(state.active) == state.wanted.desired == release
            and (state.baked or state.wanted.rollback)
            and self.serves(release)
        )


Begin = Callable[..., Story]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """begin(key=value, …) tells a new story with those settings of the environment."""
    before, variables, told = Path.cwd(), dict(os.environ), list[Story]()
    try:
        with gitlab_server() as gitlab:

            def build(**facts: Any) -> Story:
                told.append(Story(tmp_path, gitlab, facts).begin())
                return told[-1]

            try:
                yield build
            finally:
                for story in told:
                    story.close()
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(variables)


def digest(reference: str) -> str:
    return reference.partition("@")[2]
