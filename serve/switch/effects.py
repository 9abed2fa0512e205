"""The thin effects of a deployment: each does one action of the plan and records it. Each may be repeated after a
kill."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from configs.slots import SlotName
from infra.haproxy.api_keys import api_key
from serve.plan.planner import Action
from serve.record.environment import Environment
from serve.record.state import State
from serve.switch.servers import crash, measure_room, note, prove_slot, start, stop
from serve.switch.traffic import queue, step, switch

if TYPE_CHECKING:
    pass

LONGEST_WAIT_SECONDS = 5.0


def perform(action: Action, env: Environment, state: State) -> None:
    """Does one action. Raises RefusedError when a proof or the room says no, OutsideError when the world fails or
    another holder has taken over."""
    env.record.check_token()
    if action.kind == "start_router":
        start_router(env, state)
        return
    slot = action.slot
    assert slot is not None
    effects: dict[str, Callable[[], None]] = {
        "start": lambda: start(env, state, slot, str(action.release)),
        "measure": lambda: measure_room(env, state, slot, str(action.release)),
        "prove": lambda: prove_slot(env, state, slot, str(action.proof)),
        "step": lambda: step(env, state, slot, action.weight or 0),
        "queue": lambda: queue(env, state, slot),
        "switch": lambda: switch(env, state, slot),
        "stop": lambda: stop(env, state, slot),
        "crashed": lambda: crash(env, state, slot, str(action.why)),
        "fall_back": lambda: fall_back(env, state, slot, str(action.release), str(action.why)),
        "page": lambda: page(env, slot, str(action.why)),
        "refuse": lambda: note(env, "refused", slot, str(action.why)),
        "wait": lambda: time.sleep(min(action.seconds, LONGEST_WAIT_SECONDS)),
    }
    effects[action.kind]()


def start_router(env: Environment, state: State) -> None:
    env.tell(f"open the router at {env.router.base_url}")
    env.router.start(api_key(env.config))
    if state.swapping:
        env.router.pause()
    elif env.router.is_paused():
        env.router.resume()


def fall_back(env: Environment, state: State, slot: SlotName, release: str, why: str) -> None:
    failed = state.release_of(slot)
    env.tell(f"{failed}: {why}: back to {release}")
    env.record.append("desired", release=release, rollback=True, failed=failed, why=why)


def page(env: Environment, slot: SlotName, why: str) -> None:
    note(env, "paged", slot, f"a person is needed: {why}")
