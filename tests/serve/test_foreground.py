"""One server for a person at a terminal: it always ends with the command, and a load test asks where it was told to."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import serve.foreground
import serve.load.run
import serve.proofs.baseline
import serve.switch.servers
from configs.errors import ExternalError, RefusedError
from infra.boot import ProcessId
from infra.signing import sign
from infra.vllm.server import SlotProcess
from serve.foreground import serve_release
from tests.infra.test_signing import make_pair
from tests.support.fake_machine import World, world
from tests.support.few_bytes import publish

__all__ = ["world"]
pytestmark = pytest.mark.unit


@pytest.fixture
def release(world: World) -> Path:
    publish("one")
    return next(Path("releases").glob("one@*")) / "release"


def terminal(monkeypatch: pytest.MonkeyPatch, *, alive: int, end: type[BaseException] | None = None) -> list[str]:
    """A server that lives for so many looks; then `end` is raised, or it is found dead. What was done, in order."""
    done: list[str] = []

    def start_slot(directory: Path, manifest: Any, *, port: int, served_name: str, log: Path) -> SlotProcess:
        done.append(f"start {served_name} on {port}")
        return SlotProcess(ProcessId(7, "", 0), port, log)

    def wait_started(slot: SlotProcess, manifest: Any, *, least: float) -> None:
        done.append("healthy")
        assert least == 600

    def wait_healthy(slot: SlotProcess, seconds: float) -> None:
        done.append("dead")
        raise ExternalError("the server ended")

    def is_alive(slot: SlotProcess) -> bool:
        done.append("look")
        if end and done.count("look") > alive:
            raise end
        return done.count("look") <= alive

    replaced = {
        "start_slot": start_slot,
        "wait_started": wait_started,
        "wait_healthy": wait_healthy,
        "is_alive": is_alive,
        "stop_slot": lambda slot, drain_seconds: done.append("stop"),
    }
    for name, value in (replaced | {"time": SimpleNamespace(sleep=lambda seconds: None)}).items():
        monkeypatch.setattr(serve.foreground, name, value)
    monkeypatch.setattr(signal, "signal", lambda number, handler: done.append(signal.Signals(number).name))
    return done


def test_ctrl_c_ends_the_server_and_is_no_error(
    release: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = terminal(monkeypatch, alive=2, end=KeyboardInterrupt)
    serve_release(release, 9000)
    assert done == ["start one on 9000", "SIGTERM", "healthy", "look", "look", "look", "stop"]
    assert "http://127.0.0.1:9000/v1/chat/completions" in capsys.readouterr().err


def test_a_server_that_dies_is_an_outside_error_and_leaves_nothing_behind(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = terminal(monkeypatch, alive=1)
    with pytest.raises(ExternalError, match="the server ended"):
        serve_release(release, 9000)
    assert done[-2:] == ["dead", "stop"]


def test_wrong_bytes_are_refused_before_anything_starts(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = terminal(monkeypatch, alive=1)
    (release / "model.safetensors").write_text("onE")
    with pytest.raises(RefusedError, match=r"model\.safetensors"):
        serve_release(release, 9000)
    assert done == []


def test_a_release_that_the_named_key_did_not_sign_is_not_served(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, pair = terminal(monkeypatch, alive=1, end=KeyboardInterrupt), make_pair(Path())
    with pytest.raises(RefusedError, match=r"found no .*model\.sig"):
        serve_release(release, 9000, str(pair.public))
    assert done == []
    sign(release, pair.private)
    serve_release(release, 9000, str(pair.public))
    assert done[0] == "start one on 9000"
