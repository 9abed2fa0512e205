"""Published releases of tiny random models that the real vLLM serves, and an environment to deploy them to."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path
from unittest.mock import patch

import pytest

from configs.environment.config import DeployConfig
from tests.paths import ROOT
from tests.support.judging import judged_when_asked
from tests.support.tiny_release import write_release

LOCAL = """# tunegate deploy local
name: x  # an environment
release: null  # pinned by hand
model: m
gate: null
state_dir: state
"""


@pytest.fixture(scope="module", autouse=True)
def verdicts_hold() -> Iterator[None]:
    """What a verdict must hold for has tests of its own: tests/serve/switch/test_verdict.py."""
    with judged_when_asked():
        yield


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory of the module's own: a deployment lives across its tests."""
    folder = tmp_path_factory.mktemp("checkout")
    with chdir(folder), patch.dict(os.environ, TUNEGATE_SERVE_PYTHON=str(ROOT / ".venv-serve/bin/python")):
        yield folder


@pytest.fixture(scope="module")
def publish(checkout: Path) -> Callable[..., str]:
    return lambda name, seed, outcome="pass", **facts: write_release(checkout, name, seed, outcome, **facts)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    found = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return found


@pytest.fixture(scope="module")
def config(checkout: Path) -> DeployConfig:
    (checkout / "load.yaml").write_text(
        "rules:\n- {rule: goodput, maximum_error_rate: 0}\n"
        "- {rule: latency, metric: time_to_first_token_p95_ms, maximum: 60000}\n"
    )
    router_port, *slots = free_ports(3)
    settings = {
        "name": "test",
        "model": "assistant",
        "router": {"port": router_port},
        "slot_ports": tuple(slots),
        "gate": "load.yaml",
        "bake_seconds": 1,
        "watch": {"on_inconclusive": "accept"},
        "load_test": {"users": 2, "seconds": 3, "max_tokens": 8},
        "drain_deadline_seconds": 60,
        "state_dir": "state",
    }
    return DeployConfig.model_validate(settings)


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """configs/deploy/local.yaml in a checkout of its own."""
    monkeypatch.chdir(tmp_path)
    path = Path("configs/deploy/local.yaml")
    path.parent.mkdir(parents=True)
    path.write_text(LOCAL)
    return path
