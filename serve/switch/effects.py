"""The thin effects of a deployment: each does one action of the plan and records it. Each may be repeated after a
kill."""

from __future__ import annotations

from configs.environment.clashes import clashes
from configs.errors import InputError
from configs.read import environment_path, environments_here
from configs.slots import SlotName
from infra.haproxy.api_keys import api_key
from serve.plan.action import Action
from serve.record.environment import Environment
from serve.record.facts import Desired
from serve.record.state import State
from serve.switch.pods import is_in_cluster, open_routers
from serve.switch.servers import crash, measure_capacity, prove_slot, start, stop
from serve.switch.sleep import sleep, wake
from serve.switch.traffic import queue, step, switch
from serve.watch.bake import analyse, bake


def perform_task(action: Action, env: Environment) -> None:
    """In a process of its own."""
    perform(action, env, env.record.state())


def perform(action: Action, env: Environment, state: State) -> None:
    """Does one action. Raises RefusedError when a proof, the memory or the watch says no, ExternalError when the world
    fails or another holder has taken over."""
    env.record.check_token()
    slot, release, why = action.slot, str(action.release), str(action.why)
    if slot is None:
        start_router(env, state)
        return
    match action.kind:
        case "start":
            start(env, state, slot, release, action.server)
        case "measure":
            measure_capacity(env, state, slot, release)
        case "prove":
            prove_slot(env, state, slot, str(action.proof), action.server)
        case "step":
            step(env, state, slot, action.weight or 0)
        case "analyse":
            analyse(env, state, slot)
        case "queue":
            queue(env, state, slot)
        case "switch":
            switch(env, state, slot)
        case "bake":
            bake(env, state)
        case "stop":
            stop(env, state, slot)
        case "sleep":
            sleep(env, state, slot)
        case "wake":
            wake(env, state, slot)
        case "crashed":
            crash(env, state, slot, why, action.server)
        case "fall_back":
            fall_back(env, state, slot, release, why)
        case "page":
            call_operator(env, slot, why)
        case "refuse":
            refuse(env, slot, why)


def start_router(env: Environment, state: State) -> None:
    """Raises InputError where another environment of this checkout says that it has a port or folder of this one's."""
    refuse_clashes(env)
    if is_in_cluster(env.config):
        open_routers(env)
    else:
        env.report_progress(f"open the router at {env.router.base_url}")
    env.router.start(api_key(env.config))
    if state.moves.swapping:
        env.router.pause()
    elif env.router.is_paused():
        env.router.resume()


def refuse_clashes(env: Environment) -> None:
    name = env.config.name
    others = [other for other in environments_here(environment_path(name)) if other.name != name]
    found = [
        f"{claim.what} {claim.value} is {theirs} of {other}" for claim, other, theirs in clashes(env.config, others)
    ]
    if found:
        raise InputError(f"{name}: {'; '.join(found)}", hint=f"tunegate check configs/deploy/{name}.yaml")


def fall_back(env: Environment, state: State, slot: SlotName, release: str, why: str) -> None:
    failed = state.release_of(slot)
    env.report_progress(f"{failed}: {why}: back to {release}")
    facts: Desired = {"release": release, "rollback": True, "failed": failed, "why": why}
    env.record.append("desired", **facts)


def call_operator(env: Environment, slot: SlotName, why: str) -> None:
    why = f"a person is needed: {why}"
    env.report_progress(f"paged: {why}")
    env.record.append("paged", slot, why=why)


def refuse(env: Environment, slot: SlotName, why: str) -> None:
    env.report_progress(f"refused: {why}")
    env.record.append("refused", slot, why=why)
