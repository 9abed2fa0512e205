"""Effects on servers that share GPUs in turns: one slot's sleep while the other's serve, and wake in seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from configs.errors import ExternalError
from configs.slots import SlotName
from infra.vllm import runtime
from infra.vllm.server import SlotProcess
from serve.record.environment import Environment
from serve.record.state import State
from serve.switch.gpus import await_memory
from serve.switch.pods import stand_down
from serve.switch.servers import drain, left, stop
from serve.watch.liveness import answers

# A PCIe bus moves some 20 GiB a second; a server that takes longer than this is started anew sooner.
SLEEP_SECONDS, WAKE_SECONDS = 120.0, 120.0


def sleep(env: Environment, state: State, slot: SlotName) -> None:
    """Drained as for a stop. One that does not sleep is stopped: its memory is what the swap waits for."""
    drained, open_streams = drain(env, state, slot)
    env.record.append("sleeping", slot)
    env.report_progress(f"{slot} goes to sleep, {open_streams} streams open")
    try:
        at_once(env.processes(state, slot), lambda one: runtime.lay_to_sleep(one, SLEEP_SECONDS))
    except ExternalError as error:
        env.report_progress(f"{error.message}: it is stopped")
        stop(env, env.record.state(), slot)
        return
    env.record.append("slept", slot, **left(state, slot, drained, open_streams))


def wake(env: Environment, state: State, slot: SlotName) -> None:
    """Raises ExternalError where it is not awake, or does not answer."""
    env.record.append("waking", slot)
    stand_down(env, slot)
    env.report_progress(f"wake {slot}")
    began, found = time.monotonic(), state.slots[slot]
    assert found is not None
    for one in found.servers.values():
        await_memory(one.process.get("place"), one.process["pid"])
    at_once(env.processes(state, slot), lambda one: runtime.wake(one, WAKE_SECONDS))
    for number in found.servers:
        if not answers(env, state, slot, number):
            raise ExternalError(f"{slot} was woken and does not answer", hint=f"less {env.log_path(slot, number)}")
    env.record.append("woken", slot, seconds=round(time.monotonic() - began, 2))


def at_once(servers: list[SlotProcess], do: Callable[[SlotProcess], None]) -> None:
    with ThreadPoolExecutor(max(1, len(servers))) as pool:
        list(pool.map(do, servers))
