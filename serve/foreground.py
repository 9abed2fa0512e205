"""One server for a person at a terminal: serve a release until Ctrl-C, load-test what is there."""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path
from types import FrameType

import typer

from configs.errors import InputError, RefusedError
from configs.release import read_manifest, verify_release
from configs.verdict import Verdict
from infra.artifacts import find
from infra.router import api_key
from infra.slot import is_alive, start_slot, stop_slot, temporary_slot, wait_healthy
from serve.environment import Environment
from serve.loadtest import run_load_test

START_SECONDS = 600


def serve_release(directory: Path, port: int) -> None:
    """Blocks. Raises RefusedError on wrong bytes, OutsideError if vLLM does not come up or dies."""
    manifest = verify_release(directory)
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


def load_test(env: Environment, directory: Path | None, users: int | None, seconds: int | None) -> tuple[dict[str, float], Verdict]:
    """Figures and their verdict: of a release directory served for the test, or of what the door answers from."""
    if env.judge is None:
        raise InputError(f"{env.config.name}: no gate is named, so nothing can be judged", hint="gate: configs/gates/load.yaml")
    state, settings = env.record.state(), env.config.load_test
    with contextlib.ExitStack() as stack:
        if directory is not None:
            manifest = verify_release(directory)
            base_url, key = stack.enter_context(temporary_slot(directory, manifest, served_name=env.config.model, log=env.folder / "loadtest.log")), None
        else:
            serving = state.release_of(state.active)
            if serving is None or not env.router.is_running():
                raise RefusedError(f"{env.config.name}: nothing serves", hint=f"tunegate deploy {env.config.name} RELEASE")
            directory = find(serving) / "release"
            manifest, base_url, key = read_manifest(directory), env.router.base_url, api_key(env.config)
        figures = run_load_test(
            base_url, env.config.model, manifest, users=users or settings.users, seconds=seconds or settings.seconds, max_tokens=settings.max_tokens,
            prompts=directory / "golden.jsonl", output=env.folder / "loadtest.jsonl", api_key=key,
        )  # fmt: skip
    return figures, env.judge(manifest.reference, figures)
