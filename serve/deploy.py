"""Deploy, roll back, promote, stop: plan one action, do it, record it, until the desired release serves."""

from __future__ import annotations

from collections.abc import Callable

from configs.errors import RefusedError
from configs.slots import SLOTS, SlotName
from infra.vllm.server import reap_orphan, stop_slot
from serve.record.environment import Environment, locked
from serve.record.state import State
from serve.switch.failure import warm_standby
from serve.switch.hand_over import await_agent
from serve.switch.pods import close_routers, end_pods, is_in_cluster
from serve.switch.reconcile import DeployResult, act, check_release, deploy_result
from serve.switch.servers import KILL_SECONDS


def deploy(env: Environment, reference: str) -> DeployResult:
    """Reconciles the environment to `reference`; killed at any moment, the next call goes on from the record.

    Raises RefusedError where the bytes, the verdict, a proof or the bake say no, or the pin of an agent that takes it
    elsewhere: what served serves on.
    """
    check_release(env.config, reference)
    await_agent(env, reference)

    def request(env: Environment) -> None:
        state = env.record.state()
        if state.wanted.held:
            raise RefusedError(
                f"{env.config.name} is held at {state.release_of(state.active)}",
                hint=f"tunegate resume {env.config.name}",
            )
        if state.wanted.desired != reference or state.refused is not None or state.wanted.rollback or state.paged:
            env.record.append("desired", release=reference)

    return act(env, request)


def rollback(env: Environment) -> DeployResult:
    """Back to the warm other slot at once: no proof is repeated, nothing starts. A release that does not serve yet is
    called off instead, for the proven one in the other slot is that one. Whoever holds the environment does it.

    Raises RefusedError where no release is warm.
    """
    why = env.why or "rolled back by a person"

    def request(env: Environment) -> None:
        state = env.record.state()
        if is_on_its_way(state):
            env.record.append("aborted", why=why)
            return
        release = warm_standby(env, state)
        if release is None:
            raise RefusedError(
                "no proven release is warm in the other slot",
                hint=f"tunegate deploy {env.config.name} RELEASE   (tunegate releases list)",
            )
        env.record.append("desired", release=release, rollback=True, why=why)

    return act_to_call_off(env, request, why)


def act_to_call_off(env: Environment, request: Callable[[Environment], None], why: str) -> DeployResult:
    """As `act`; that the release which was called off is refused is what was asked for."""
    try:
        return act(env, request, beside=True)
    except RefusedError as error:
        state = env.record.state()
        if error.message != f"{state.wanted.desired}: {why}":
            raise
        return deploy_result(env, state)


def is_on_its_way(state: State) -> bool:
    """Whether a release is wanted that has not all of the traffic yet; one of a switch that has begun has it."""
    serving = state.moves.switching or state.active
    wanted = state.wanted
    return None not in (serving, wanted.desired) and not (
        wanted.rollback or state.refused or state.release_of(serving) == wanted.desired
    )


def promote(env: Environment) -> DeployResult:
    """Lets a proven release take the traffic, where the environment's promotion is manual."""

    def request(env: Environment) -> None:
        state = env.record.state()
        if (
            state.wanted.desired is None
            or state.refused is not None
            or state.release_of(state.active) == state.wanted.desired
        ):
            raise RefusedError("no proven release is waiting", hint=f"tunegate status {env.config.name}")
        env.record.append("promoted", release=state.wanted.desired)

    return act(env, request)


def stop_all(env: Environment, drain_seconds: float = 0) -> None:
    """Ends the router and both slots; the record says so, and the next deploy starts from nothing."""
    with locked(env) as held:
        state = held.record.state()
        held.router.stop(drain_seconds)
        for slot in SLOTS:
            end_slot(held, state, slot)
        close_routers(held)


def end_slot(env: Environment, state: State, slot: SlotName) -> None:
    if is_in_cluster(env.config):
        end_pods(env, slot, KILL_SECONDS)
    for process in env.processes(state, slot):
        stop_slot(process, drain_seconds=KILL_SECONDS)
    for port in () if is_in_cluster(env.config) else env.config.ports_of(slot):
        reap_orphan(port, env.record.owner)
    if state.slots[slot]:
        env.record.append("stopped", slot, release=state.release_of(slot), why="stop")
