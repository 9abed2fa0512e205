"""Does what runs equal what git says? By what the router and the processes are seen to do; and why not, which the
record knows."""

from __future__ import annotations

from configs.errors import RefusedError
from serve.record.standing import Difference, Standing
from serve.record.state import State


def check_served(seen: Standing, pinned: str | None, file: str) -> str:
    """A sentence that names the digest. `seen` is `status`'s. Raises RefusedError, which names both, where the pin is
    not all that serves."""
    name = seen["environment"]
    serving = {slot: facts for slot, facts in seen["slots"].items() if facts["weight"] > 0}
    live = " and ".join(
        f"{facts['release']} ({slot}, {facts['weight']} %{'' if facts['alive'] else ', dead'})"
        for slot, facts in serving.items()
    )
    whole = seen["router"]["running"] and all(
        facts["release"] == pinned and facts["alive"] for facts in serving.values()
    )
    if pinned is None and not serving:
        return f"{name}: nothing is pinned and nothing serves"
    if pinned is None or not serving or not whole:
        router = "" if seen["router"]["running"] else ", router down"
        why = f"; {seen['difference']['why']}" if seen["difference"] else ""
        found = f"{name}: found {live or 'nothing'}{router}, expected {pinned or 'nothing'} as {file} says{why}"
        raise RefusedError(
            found, hint=f"tunegate events {name} --kind desired --kind failed   (then: tunegate deploy {name})"
        )
    return f"{name}: {pinned} serves, as {file} says"


def difference(state: State, pinned: str | None) -> Difference | None:
    """None where what serves is what the YAML pins, or nothing is pinned."""
    serves = state.release_of(state.active)
    if pinned is None or pinned == serves:
        return None
    found: Difference = {"pinned": pinned, "serves": serves, "why": reason(state, pinned)}
    if state.git.proposed.get("url"):
        found["merge_request"] = state.git.proposed["url"]
    return found


def reason(state: State, pinned: str) -> str:
    if state.wanted.held:
        return "held by the operator"
    if pinned != state.wanted.pinned:
        return "this pin was not taken up yet"
    if state.wanted.desired != pinned:
        return state.wanted.why or "rolled back"
    return state.refused or state.paged or "the deployment is under way"


def is_rolled_back(state: State, pinned: str | None) -> bool:
    """Traffic went back, by the agent or by a person, and the pin did not yet: it has to be written back."""
    return (
        state.wanted.rollback
        and not state.wanted.held
        and pinned == state.wanted.pinned is not None
        and state.release_of(state.active) == state.wanted.desired != pinned
    )
