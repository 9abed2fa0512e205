"""What infra/images.py asks of docker, by a docker that writes down what it is asked; the real one's answers are in
docs/images.md."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.git.command import head_revision
from infra.images import COMPILE
from tests.paths import ROOT
from tests.support.fake_openai import Fake, serving
from tests.support.fake_servers import publish_fake

pytestmark = pytest.mark.unit
FAKE = """#!/bin/sh
echo "$@" >> {folder}/asked
case "$*" in
  *--entrypoint*tunegate.py*) echo {writes} ;;
  *--entrypoint*Python.h*) echo {compiles} ;;
  *--entrypoint*) echo 'HAProxy version 2.8.25' ;;
  'image inspect --format'*) echo 100000000 ;;
  'image inspect'*) cat {folder}/image.json ;;
  *--version*) echo tunegate 0.1.0 ;;
  {fails}*) echo 'this is why'; echo 'it broke' >&2; exit 1 ;;
  'run -d'*) echo c0ffee ;;
  'inspect --format'*) echo {state} ;;
  logs*) echo 'on stderr' >&2 ;;
esac
"""


def run(
    folder: Path,
    *more: str,
    user: str = "10001",
    revision: str | None = None,
    writes: str = "refused",
    compiles: str = "compiled 3",
    fails: str = "nothing",
    state: str = "running healthy",
) -> subprocess.CompletedProcess[str]:
    path, labels = folder / "docker", {"org.opencontainers.image.revision": revision or head_revision()}
    (folder / "image.json").write_text(
        json.dumps([{"Config": {"Labels": labels, "User": user, "Healthcheck": {"Test": ["CMD", "python"]}}}])
    )
    path.write_text(FAKE.format(folder=folder, writes=writes, compiles=compiles, fails=fails, state=state))
    path.chmod(0o755)
    environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.run(
        [sys.executable, "-m", "infra.images", "mine:1", *more],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )


def test_the_agents_image_is_built_from_the_given_base_and_run_with_nothing_to_write_to(tmp_path: Path) -> None:
    found = run(tmp_path)
    assert found.returncode == 0, found.stderr
    asked = (tmp_path / "asked").read_text().splitlines()
    assert (
        asked[0].startswith("build --network host -f Dockerfile.gpu --target agent")
        and "--build-arg BASE=mine:1" in asked[0]
    )
    assert f"REVISION={head_revision()}" in asked[0]
    turn = next(line for line in asked if line.endswith("agent local --once"))
    assert all(
        word in turn for word in ("--read-only", "--cap-drop ALL", "no-new-privileges", "/srv/tunegate/configs:ro")
    )
    assert "100 MB" in found.stdout and "HAProxy version" in found.stdout


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"user": ""}, "user ''"),
        ({"revision": "unknown"}, "found revision unknown"),
        ({"writes": ""}, "can be written"),
    ],
)
def test_an_image_that_runs_as_root_hides_its_revision_or_can_be_changed_is_refused(
    tmp_path: Path, facts: dict[str, str], words: str
) -> None:
    found = run(tmp_path, **facts)  # type: ignore[arg-type]  # all are texts
    assert found.returncode == 1 and words in found.stderr and "Traceback" not in found.stderr


def test_a_build_that_fails_says_why_and_at_which_step(tmp_path: Path) -> None:
    found = run(tmp_path, fails="build")
    assert (
        found.returncode == 3
        and "this is why" in found.stderr
        and "it broke" in found.stderr
        and "Traceback" not in found.stderr
    )


@pytest.fixture
def release(tmp_path: Path) -> str:
    with contextlib.chdir(tmp_path):
        publish_fake("m")
    return str(next((tmp_path / "releases").iterdir()) / "release")


def test_a_release_is_served_with_cpu_locks_until_docker_calls_it_healthy_and_is_asked_once(
    tmp_path: Path, release: str
) -> None:
    with serving(Fake()) as server:
        found = run(tmp_path, "--release", release, "--port", str(server.port), "--uv-flags", "--find-links here")
    assert found.returncode == 0 and "it answered 'one two three'" in found.stdout, found.stderr
    asked = (tmp_path / "asked").read_text().splitlines()
    agent, serve = (line for line in asked if line.startswith("build"))
    assert "--target serve" in serve and "SERVE_LOCK=serve.txt" in serve and "UV_FLAGS=--find-links here" in serve
    assert "UV_FLAGS=--find-links here" in agent, "other flags would have it built twice"
    started = next(line for line in asked if line.startswith("run -d"))
    assert (
        f"-v {release}:/release:ro" in started
        and "--read-only" in started
        and started.endswith(f"tunegate-serve serve /release --port {server.port}")
    )
    assert server.bodies[0][1]["model"] == "m" and asked[-1] == "rm -f -v c0ffee"


def test_an_image_that_cannot_load_what_it_compiled_is_refused_before_a_server_is_tried(
    tmp_path: Path, release: str
) -> None:
    found = run(tmp_path, "--release", release, compiles="")
    assert found.returncode == 1 and "compiled at run time cannot be loaded" in found.stderr
    asked = (tmp_path / "asked").read_text()
    tried = next(line for line in asked.splitlines() if ".venv-serve/bin/python" in line)
    assert "--read-only" in tried and "-v /var/cache/tunegate" in tried and "tunegate-serve" in tried
    assert "run -d" not in asked


def test_what_is_compiled_in_an_image_is_loaded_again_or_refused(tmp_path: Path) -> None:
    """The very code, by this interpreter, in a folder that may be executed, and in one that cannot be."""
    (tmp_path / "file").write_text("")
    ran = [
        subprocess.run(
            [sys.executable, "-c", COMPILE],
            capture_output=True,
            text=True,
            env=os.environ | {"TRITON_CACHE_DIR": str(folder)},
        )
        for folder in (tmp_path / "cache", tmp_path / "file/cache")
    ]
    assert ran[0].stdout == "compiled 3\n", ran[0].stderr
    assert ran[1].returncode != 0


def test_a_server_that_ends_is_refused_with_its_last_words_its_log_fetched_and_itself_taken_away(
    tmp_path: Path, release: str
) -> None:
    found = run(tmp_path, "--release", release, state="exited starting")
    assert (
        found.returncode == 1
        and "exited starting after" in found.stderr
        and "on stderr" in found.stderr
        and "Traceback" not in found.stderr
    )
    assert (tmp_path / "asked").read_text().splitlines()[-2:] == [
        "cp c0ffee:/srv/tunegate/build/serve/8000.log build/image-serve.log",
        "rm -f -v c0ffee",
    ]
