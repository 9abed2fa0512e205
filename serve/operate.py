"""What an operator may say to a deployment that is under way: pause, resume, abort, hold. Each is an event; the plan
does the rest."""

from __future__ import annotations

from configs.errors import RefusedError
from serve.deploy import act_to_call_off, deploy
from serve.record.environment import Environment
from serve.switch.reconcile import DeployResult, act, deploy_result

ABORTED = "aborted by the operator"


def pause(env: Environment) -> DeployResult:
    """Nothing goes further until `resume`: shares stay, what is watched is watched on, what dies is still brought back.
    Takes no lock."""
    state = env.record.state()
    if not state.wanted.paused:
        env.record.append("paused")
    return deploy_result(env, state, "paused")


def resume(env: Environment) -> DeployResult:
    """Ends a pause, a hold, or a page: what the YAML pins is wanted again, what crashed too often is tried again, and
    what a watch could not tell is accepted."""
    was_held = env.record.state().wanted.held

    def request(env: Environment) -> None:
        state = env.record.state()
        if not (state.wanted.paused or state.wanted.held or state.paged or state.awaits_person):
            raise RefusedError(
                f"{env.config.name} is neither paused, held nor waiting for a person",
                hint=f"tunegate status {env.config.name}",
            )
        env.record.append("resumed")

    found = act(env, request, beside=True)
    return deploy(env, env.config.release) if was_held and env.config.release else found


def abort(env: Environment) -> DeployResult:
    """Back to what served before; the new release's server is stopped. Raises RefusedError where nothing is under
    way."""

    def request(env: Environment) -> None:
        state = env.record.state()
        settled = (
            state.moves.switching is None and state.baked and state.release_of(state.active) == state.wanted.desired
        )
        if settled or state.wanted.rollback or state.wanted.desired is None or state.refused is not None:
            raise RefusedError(f"{env.config.name}: nothing is under way", hint=f"tunegate rollback {env.config.name}")
        env.record.append("aborted", why=ABORTED)

    return act_to_call_off(env, request, ABORTED)


def hold(env: Environment) -> DeployResult:
    """What serves is kept, whatever the YAML pins, until `resume`; what was under way is called off. Raises
    RefusedError where nothing serves."""

    def request(env: Environment) -> None:
        state = env.record.state()
        if state.active is None:
            raise RefusedError(
                f"{env.config.name}: nothing serves that could be held", hint=f"tunegate status {env.config.name}"
            )
        env.record.append("held", release=state.release_of(state.active))

    return act(env, request, beside=True)
