"""One server for a person at a terminal: serve a release until Ctrl-C, load-test what is there."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import typer
from pydantic import ValidationError

from configs.environment.load_test import LoadTest
from configs.errors import InputError, RefusedError
from configs.release import read_manifest, verify_release
from configs.verdict import Verdict
from infra.dvc.releases import find
from infra.haproxy.api_keys import api_key
from infra.signing import verify_signature
from infra.vllm.server import is_alive, start_slot, stop_slot, temporary_slot, wait_healthy
from serve.load.run import measuring
from serve.proofs.baseline import ABSENT, measure_blue, wants_blue
from serve.record.environment import Environment
from serve.switch.effects import what_serves

START_SECONDS = 600


def serve_release(directory: Path, port: int, public_key: str | None = None) -> None:
    """Blocks. Raises RefusedError on wrong bytes or a missing signature, OutsideError if vLLM does not come up or dies."""
    manifest = verify_release(directory)
    if public_key:
        verify_signature(directory, public_key)
    log = Path("build/serve") / f"{port}.log"
    slot = start_slot(directory, manifest, port=port, served_name=manifest.name, log=log)

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    try:
        typer.echo(f"starting {manifest.reference}, log in {log}", err=True)
        wait_healthy(slot, START_SECONDS)
        path = {"sequence-classification": "/classify", "token-classification": "/pooling"}.get(manifest.task, "/v1/chat/completions")
        typer.echo(f"serving {manifest.name} at http://127.0.0.1:{port}{path}   (Ctrl-C ends it)", err=True)
        while is_alive(slot):
            time.sleep(0.5)
        wait_healthy(slot, 0)
    except KeyboardInterrupt:
        typer.echo("ended", err=True)
    finally:
        stop_slot(slot, drain_seconds=5)


Figures = dict[str, float]


def load_test(env: Environment, directory: Path | None, given: dict[str, Any]) -> tuple[Figures, Verdict, Path]:
    """Figures, their verdict and the page: of a release directory served for the test, or of what the door answers from. `given` overrides load_test."""
    if env.judge is None or env.config.gate is None:
        raise InputError(f"{env.config.name}: no gate is named, so nothing can be judged", hint="gate: configs/gates/load.yaml")
    settings = overridden(env.config.load_test, given)
    reference, figures, theirs, folder = load_release(env, directory, settings) if directory else load_door(env, settings)
    return figures, env.judge(reference, figures | theirs), folder / "report.html"


def load_release(env: Environment, directory: Path, settings: LoadTest) -> tuple[str, Figures, Figures, Path]:
    """Served for the test; beside what serves, where a rule compares with it."""
    manifest, folder = verify_release(directory), env.folder / "loadtest"
    prompts = directory / "golden.jsonl"
    measure = measuring(env.config.model, settings, prompts)
    compared = wants_blue(Path(str(env.config.gate)))
    theirs = measure_blue(what_serves(env, env.record.state(), None), settings, prompts, folder, measure)[0] if compared else {}
    with temporary_slot(directory, manifest, served_name=env.config.model, log=env.folder / "loadtest.log") as base_url:
        return manifest.reference, measure(base_url, manifest, folder / "release"), theirs, folder / "release"


def load_door(env: Environment, settings: LoadTest) -> tuple[str, Figures, Figures, Path]:
    """Blue itself is asked: there is no other to compare with."""
    state = env.record.state()
    serving = state.release_of(state.active)
    if serving is None or not env.router.is_running():
        raise RefusedError(f"{env.config.name}: nothing serves", hint=f"tunegate deploy {env.config.name} RELEASE")
    directory, folder = find(serving) / "release", env.folder / "loadtest" / "door"
    measure = measuring(env.config.model, settings, directory / "golden.jsonl", api_key(env.config))
    return serving, measure(env.router.base_url, read_manifest(directory), folder), ABSENT, folder


def overridden(settings: LoadTest, given: dict[str, Any]) -> LoadTest:
    """A kind of load that is given takes the place of the one in the YAML. Raises InputError for what is no load."""
    kinds: dict[str, Any] = {"rate": None, "ramp": [], "trace": None}
    fresh = kinds if {"users", *kinds} & given.keys() else {}
    try:
        return LoadTest.model_validate(settings.model_dump() | fresh | given)
    except ValidationError as error:
        one = error.errors()[0]
        raise InputError(f"load test: {'.'.join(map(str, one['loc']))}: {one['msg']}", hint="tunegate loadtest --help") from None
