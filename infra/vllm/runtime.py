"""The seam to a vLLM that runs: one more adapter is loaded beside the first, or taken away; it sleeps and wakes. Over
its own loopback, never through the router."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from configs.errors import ExternalError
from infra.vllm.adapter_names import LOAD, UNLOAD
from infra.vllm.server import SlotProcess
from infra.vllm.sleep import PATH

if TYPE_CHECKING:
    import httpx

LOAD_SECONDS, UNLOAD_SECONDS = 60.0, 5.0


def load_adapter(engine: SlotProcess, name: str, folder: Path) -> None:
    """Into the running server; no stream is cut, each waits a little (docs/notes.md). Raises ExternalError."""
    unload_adapter(engine, name)  # of a load that was killed before it was on record
    reply = tell_engine(engine, LOAD, {"lora_name": name, "lora_path": str(folder.absolute())}, LOAD_SECONDS)
    if reply is None or reply.status_code != 200:
        why = reply.text[:300] if reply is not None else "no answer"
        raise ExternalError(
            f"the server on port {engine.port} did not load the adapter {name}: {why}", hint=f"less {engine.log}"
        )


def unload_adapter(engine: SlotProcess, name: str) -> None:
    """Open streams go on to their end. A server that does not know it, or does not answer, serves it no more than one
    that has forgotten it."""
    tell_engine(engine, UNLOAD, {"lora_name": name}, UNLOAD_SECONDS)


def tell_engine(engine: SlotProcess, path: str, body: dict[str, str], seconds: float) -> httpx.Response | None:
    import httpx

    try:
        return httpx.post(f"http://127.0.0.1:{engine.port}{path}", json=body, timeout=seconds)
    except httpx.HTTPError:
        return None


def lay_to_sleep(server: SlotProcess, seconds: float) -> None:
    """Whatever it still answers is cut short. Raises ExternalError where it does not sleep within `seconds`."""
    ask(server, "POST", seconds, asleep=True)


def wake(server: SlotProcess, seconds: float) -> None:
    """Raises ExternalError where it is not awake within `seconds`."""
    ask(server, "DELETE", seconds, asleep=False)


def ask(server: SlotProcess, method: str, seconds: float, *, asleep: bool) -> None:
    import httpx

    try:
        said = httpx.request(method, f"http://127.0.0.1:{server.port}{PATH}", timeout=seconds).json()
    except (httpx.HTTPError, ValueError) as error:
        said = {"error": f"{type(error).__name__}: {error}"}
    if said != {"asleep": asleep}:
        what = "sleep" if asleep else "wake"
        raise ExternalError(
            f"the server on port {server.port} did not {what}: {str(said.get('error', said))[:300]}",
            hint=f"less {server.log}",
        )
