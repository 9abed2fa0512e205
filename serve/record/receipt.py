"""The receipt of a deploy or a rollback: what became of every stream and request, from the router's own counters. JSON
under state_dir/receipts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from configs.errors import RefusedError
from configs.release import short
from configs.slots import SLOTS, SlotName, other
from infra.files.atomic import write_json
from infra.haproxy.router import Traffic
from serve.record.environment import Environment
from serve.record.state import State, seconds_between


def since(now: Traffic, before: Mapping[str, int]) -> Traffic:
    """What was counted after `before`; all of it, where the router was restarted in between and began at zero."""
    start = before if now.total >= before["total"] else dict.fromkeys(before, 0)
    return Traffic(
        **{name: value if name == "open" else max(0, value - start[name]) for name, value in vars(now).items()}
    )


def receipt(
    state: State, strategy: str, now: Mapping[SlotName, Traffic], seconds: float, drain_seconds: float
) -> dict[str, Any]:
    """Streams are counted from the flip, requests from the first share that the new release got. `drain_seconds`: until
    the old slot's last stream ended."""
    facts, active = state.switch, state.active
    assert active is not None
    old: SlotName = other(active)
    flip = {slot: since(now[slot], facts["before"][slot]) for slot in SLOTS}
    began = {slot: since(now[slot], facts["began_before"][slot]) for slot in SLOTS}
    left_open = flip[old].open if facts["from"] else 0
    releases = {
        state.release_of(active): began[active].total,
        facts["from_release"]: began[old].total if facts["from"] else 0,
    }
    return {
        "from": {"slot": facts["from"], "release": facts["from_release"]},
        "to": {"slot": active, "release": state.release_of(active)},
        "at": facts["at"],
        "strategy": strategy,
        "capacity": state.capacity,
        "flip_milliseconds": facts["flip_milliseconds"],
        "first_request_milliseconds": facts["first_request_milliseconds"],
        "streams_open_at_switch": facts["streams_open_at_switch"],
        "streams_open_at_flip": {slot: facts["before"][slot]["open"] for slot in SLOTS},
        "streams_completed": max(
            0, facts["streams_open_at_switch"] - left_open - flip[old].cut_by_server - flip[old].left_by_client
        ),
        "streams_left_by_client": flip[old].left_by_client,
        "streams_cut": sum(one.cut_by_server for one in began.values()),
        "streams_still_open": left_open,
        "longest_drain_seconds": round(max(drain_seconds, facts["drained_seconds"]), 1),
        "longest_queue_wait_seconds": facts["queued_seconds"],
        "requests_since": flip[active].total,
        "requests_by_release": {name: count for name, count in releases.items() if name},
        "requests_failed": sum(one.failed for one in began.values()),
        "seconds_watched": round(seconds, 1),
    }


def write_receipt(env: Environment, state: State, facts: Mapping[str, Any]) -> None:
    """Named by the moment of the flip: written again after a kill, it is the same file."""
    write_json(env.folder / "receipts" / f"{state.switch['at'].replace(':', '')}.json", facts)


def of_rollback(env: Environment, state: State, drain_seconds: float = 0.0) -> dict[str, Any]:
    """As it is now. A rollback is not baked, so its receipt is written at the switch; `longest_drain_seconds` is how
    long streams were seen to last."""
    seconds, traffic = seconds_between(state.switch["at"], datetime.now(UTC).isoformat()), env.router.traffic()
    is_open = state.switch["from"] and traffic[state.switch["from"]].open
    return receipt(state, "rollback", traffic, seconds, seconds if is_open else drain_seconds)


def read_receipts(env: Environment) -> list[dict[str, Any]]:
    """Oldest first. The last rollback's is brought up to date while it is the last word: when it was written, its
    streams had not ended."""
    found = [json.loads(path.read_text(encoding="utf8")) for path in sorted((env.folder / "receipts").glob("*.json"))]
    state = env.record.state()
    if (
        state.rollback
        and state.active
        and env.router.is_running()
        and state.switch.get("at", "") >= max((one["at"] for one in found), default="-")
    ):
        written = [one for one in found if one["at"] == state.switch["at"]]
        now = of_rollback(env, state, written[0]["longest_drain_seconds"] if written else 0.0)
        return [one for one in found if one not in written] + [now]
    return found


def last_receipt(env: Environment) -> dict[str, Any]:
    """Raises RefusedError where no deploy has ended yet."""
    found = read_receipts(env)
    if not found:
        raise RefusedError(
            f"{env.config.name}: no deploy has come to its end yet", hint=f"tunegate status {env.config.name}"
        )
    return found[-1]


def in_one_line(facts: Mapping[str, Any]) -> str:
    streams = f"{facts['streams_completed']} completed, {facts['streams_cut']} cut, {facts['streams_left_by_client']} left by client"
    return (
        f"{facts['at'][:19]}  {facts['strategy']}: {facts['streams_open_at_switch']} streams open at the flip, {streams}, "
        f"longest drain {facts['longest_drain_seconds']} s; flip {facts['flip_milliseconds']} ms; {facts['requests_failed']} requests failed"
    )


def for_people(facts: Mapping[str, Any]) -> dict[str, str]:
    """A line a figure, in the receipt's own names; releases as short as in lists of them."""
    return {name.replace("_", " "): worded(value) for name, value in facts.items() if value is not None}


def worded(value: Any) -> str:
    if isinstance(value, dict) and value.keys() == {"slot", "release"}:
        return f"{value['slot']}  {short(value['release'])}" if value["slot"] else "nothing"
    if isinstance(value, dict):
        return ", ".join(f"{short(name)}: {item}" for name, item in value.items())
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)
