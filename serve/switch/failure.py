"""What a failure of an action means: for the release that is wanted, or for what serves."""

from __future__ import annotations

from configs.errors import ExternalError, TunegateError, UnreachableError
from configs.slots import other
from serve.plan.action import Action
from serve.plan.interrupt import is_called_off
from serve.record.environment import Environment
from serve.record.facts import Desired
from serve.record.state import State
from serve.switch.servers import crash


def answer_failure(env: Environment, state: State, action: Action, error: TunegateError) -> TunegateError | None:
    """What failed decides: the router's death, a lost lock and a cluster that is not to be reached condemn no release,
    nor does what nobody wants any more; what serves is a crash, and what does not wake for it; all else refuses the
    desired one. `state`: when the action was begun."""
    if isinstance(error, ExternalError) and action.kind != "start_router" and not env.router.is_running():
        return None
    if is_called_off(state, env.record.state()):
        return None
    if isinstance(error, UnreachableError):
        return error
    env.record.check_token()
    serves = action.slot is not None and action.slot in (state.active, state.moves.swapping)
    if action.kind == "wake" and action.slot and (serves or state.release_of(action.slot) != state.wanted.desired):
        found = state.slots[action.slot]
        for number in sorted(found.servers) if found else []:
            crash(env, env.record.state(), action.slot, error.message, number)
        return error
    if action.slot is None or (serves and action.kind not in ("bake", "start", "prove")):
        raise error
    if serves and action.kind != "bake":
        crash(env, env.record.state(), action.slot, error.message, action.server)
        raise error
    give_up(env, env.record.state(), error, baking=action.kind == "bake")
    return error


def give_up(env: Environment, state: State, error: TunegateError, *, baking: bool) -> None:
    """A failed bake goes back to the warm standby, else to the newest release that came through its bake; before the
    switch nothing had moved."""
    env.report_progress(f"refused: {error.message}")
    back = (warm_standby(env, state) or state.last_good) if baking else None
    if back is None:
        env.record.append("refused", why=error.message)
        return
    facts: Desired = {"release": back, "rollback": True, "failed": state.wanted.desired, "why": error.message}
    env.record.append("desired", **facts)


def warm_standby(env: Environment, state: State) -> str | None:
    """The other slot's release, if it is proven and its server lives: traffic can go there at once."""
    serving = state.moves.switching or state.active
    slot = other(serving) if serving else None
    found = state.slots[slot] if slot else None
    return found.release if found and found.is_proven and slot in env.alive(state) else None
