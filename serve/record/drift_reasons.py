"""What is pinned against what serves: where the two differ, it is said, with the reason. Pure."""

from __future__ import annotations

from typing import Any

from serve.record.state import State


def difference(state: State, pinned: str | None) -> dict[str, Any] | None:
    """None where what serves is what the YAML pins, or nothing is pinned."""
    serves = state.release_of(state.active)
    if pinned is None or pinned == serves:
        return None
    found = {"pinned": pinned, "serves": serves, "why": reason(state, pinned)}
    return found | ({"merge_request": state.proposed["url"]} if state.proposed.get("url") else {})


def reason(state: State, pinned: str) -> str:
    if state.held:
        return "held by the operator"
    if pinned != state.pinned:
        return "this pin was not taken up yet"
    if state.desired != pinned:
        return state.why or "rolled back"
    return state.refused or state.paged or "the deployment is under way"


def is_rolled_back(state: State, pinned: str | None) -> bool:
    """Traffic went back, by the agent or by a person, and the pin did not yet: it has to be written back."""
    return state.rollback and not state.held and pinned == state.pinned is not None and state.release_of(state.active) == state.desired != pinned
