"""A simulated machine on which a release serves already, and what the planner did there."""

from __future__ import annotations

from configs.environment.config import DeployConfig
from serve.plan.action import Action
from tests.support.planner_world import OLD, World, settings_of


def deployed(config: DeployConfig | None = None) -> World:
    world = World(config or settings_of())
    world.note("desired", release=OLD)
    assert world.settle().kind == "done"
    world.log.clear()
    return world


def names(world: World) -> list[str]:
    """The actions so far, a proof by its own name."""
    return [(isinstance(action, Action) and action.proof) or action.kind for action in world.log]
