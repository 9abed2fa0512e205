"""What goes before a long action that is under way. Pure, like the plan."""

from __future__ import annotations

from dataclasses import replace

from configs.environment.config import DeployConfig
from serve.plan.action import Action, ActionKind, End
from serve.plan.planner import duty
from serve.plan.situation import Observed, Situation
from serve.record.state import State

# Done at once, within the loop; every other action is a task, a process of its own.
SHORT: frozenset[ActionKind] = frozenset({"start_router", "crashed", "fall_back", "page", "refuse", "queue", "step"})
WATCHES: frozenset[ActionKind] = frozenset({"analyse", "bake"})
ASKED = ("desired", "rollback", "failed", "held")


def is_called_off(begun: State, now: State) -> bool:
    """Whether something else is wanted than when a task began."""
    return now.refused != begun.refused or any(
        getattr(now.wanted, name) != getattr(begun.wanted, name) for name in ASKED
    )


def more_urgent(task: Action, state: State, config: DeployConfig, observed: Observed) -> Action | None:
    """A duty towards what serves that may not wait for `task`: a short one is done beside it, a long one in its place.
    None: the task goes on.

    The task itself sees to its own server, and says better than anybody what that died of; only a watch, which may
    last for hours, makes room for something long in its slot.
    """
    if task.slot is None:
        return None
    slot = state.slots[task.slot]
    numbers = [task.server] if task.kind in ("start", "prove") else list(slot.servers if slot else ())
    own = {(task.slot, number) for number in numbers}
    seen = replace(observed, alive=observed.alive | {task.slot}, hung=observed.hung - own, died=observed.died - own)
    found = duty(Situation(state, config, seen))
    if found is None or isinstance(found, End) or found == task or found.kind == "wait":
        return None
    if found.slot == task.slot and found.kind not in SHORT and task.kind not in WATCHES:
        return None
    return found
