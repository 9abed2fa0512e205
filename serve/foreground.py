"""One server for a person at a terminal: serve a release until Ctrl-C, load-test what is there."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from types import FrameType

import typer

from infra.files.hashes import verify_known
from infra.signing import verify_signature
from infra.vllm.server import is_alive, start_slot, stop_slot, wait_healthy, wait_started

LEAST_START_SECONDS = 600.0


def serve_release(directory: Path, port: int, public_key: str | None = None) -> None:
    """Blocks. Raises RefusedError on wrong bytes or a missing signature, ExternalError if vLLM does not come up or
    dies."""
    manifest = verify_known(directory)
    if public_key:
        verify_signature(directory, public_key, manifest.reference)
    log = Path("build/serve") / f"{port}.log"
    slot = start_slot(directory, manifest, port=port, served_name=manifest.name, log=log)

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    try:
        typer.echo(f"starting {manifest.reference}, log in {log}", err=True)
        wait_started(slot, manifest, least=LEAST_START_SECONDS)
        path = {"sequence-classification": "/classify", "token-classification": "/pooling"}.get(
            manifest.task, "/v1/chat/completions"
        )
        typer.echo(f"serving {manifest.name} at http://127.0.0.1:{port}{path}   (Ctrl-C ends it)", err=True)
        while is_alive(slot):
            time.sleep(0.5)
        wait_healthy(slot, 0)
    except KeyboardInterrupt:
        typer.echo("ended", err=True)
    finally:
        stop_slot(slot, drain_seconds=5)
