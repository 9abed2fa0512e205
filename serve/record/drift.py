"""Does what runs equal what git says? By what the router and the processes are seen to do; why not is serve/record/drift_reasons.py's, which the record knows."""

from __future__ import annotations

from typing import Any

from configs.errors import RefusedError


def check_served(seen: dict[str, Any], pinned: str | None, file: str) -> str:
    """A sentence that names the digest. `seen` is `status`'s. Raises RefusedError, which names both, where the pin is not all that serves."""
    name = seen["environment"]
    serving = {slot: facts for slot, facts in seen["slots"].items() if facts["weight"] > 0}
    live = " and ".join(f"{facts['release']} ({slot}, {facts['weight']} %{'' if facts['alive'] else ', dead'})" for slot, facts in serving.items()) or "nothing"
    whole = seen["door"]["open"] and all(facts["release"] == pinned and facts["alive"] for facts in serving.values())
    if pinned is None and not serving:
        return f"{name}: nothing is pinned and nothing serves"
    if pinned is None or not serving or not whole:
        door = "" if seen["door"]["open"] else ", door closed"
        why = f"; {seen['difference']['why']}" if seen["difference"] else ""
        found = f"{name}: found {live}{door}, expected {pinned or 'nothing'} as {file} says{why}"
        raise RefusedError(found, hint=f"tunegate events {name} --kind desired --kind failed   (then: tunegate deploy {name})")
    return f"{name}: {pinned} serves, as {file} says"
