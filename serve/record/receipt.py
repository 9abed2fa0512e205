"""The receipt of a deploy or a rollback: what became of every stream and request, from the router's own counters. JSON
under state_dir/receipts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NotRequired

from typing_extensions import TypedDict

from configs.errors import RefusedError
from configs.release import short
from configs.slots import SLOTS, SlotName, other
from infra.files.atomic import write_json
from infra.haproxy.router import Traffic
from serve.record.environment import Environment
from serve.record.facts import Mode, TrafficCounts
from serve.record.fold import seconds_between
from serve.record.state import State, Switch


class Serving(TypedDict):
    slot: SlotName | None
    release: str | None


Ends = TypedDict("Ends", {"from": Serving, "to": Serving})


class Receipt(Ends):
    """`streams_*`: those open on the old slot at the flip; `requests_*`: since the first share that the new release
    got. `watch`, `breach`: of a bake, what the watch found, and what ended it."""

    at: str
    strategy: str
    capacity: Mode | None
    flip_milliseconds: float
    first_request_milliseconds: float
    streams_open_at_switch: int
    streams_open_at_flip: dict[SlotName, int]
    streams_completed: int
    streams_left_by_client: int
    streams_cut: int
    streams_still_open: int
    longest_drain_seconds: float
    longest_queue_wait_seconds: float | None
    requests_since: int
    requests_by_release: dict[str, int]
    requests_failed: int
    seconds_watched: float
    watch: NotRequired[list[str]]
    breach: NotRequired[str]


def since(now: Traffic, before: TrafficCounts) -> Traffic:
    """What was counted after `before`; all of it, where the router was restarted in between and began at zero."""
    start = before if now.total >= before["total"] else dict.fromkeys(before, 0)
    return Traffic(
        **{name: value if name == "open" else max(0, value - start[name]) for name, value in vars(now).items()}
    )


def receipt(
    state: State, strategy: str, now: Mapping[SlotName, Traffic], seconds: float, drain_seconds: float
) -> Receipt:
    """Streams are counted from the flip, requests from the first share that the new release got. `drain_seconds`: until
    the old slot's last stream ended."""
    switch, active = last_switch(state), state.active
    assert active is not None
    old: SlotName = other(active)
    flip = {slot: since(now[slot], switch["before"][slot]) for slot in SLOTS}
    began = {slot: since(now[slot], switch["began_before"][slot]) for slot in SLOTS}
    left_open = flip[old].open if switch["from"] else 0
    releases = {
        state.release_of(active): began[active].total,
        switch["from_release"]: began[old].total if switch["from"] else 0,
    }
    gone = left_open + flip[old].cut_by_server + flip[old].left_by_client
    return {
        "from": {"slot": switch["from"], "release": switch["from_release"]},
        "to": {"slot": active, "release": state.release_of(active)},
        "at": switch["at"],
        "strategy": strategy,
        "capacity": state.capacity,
        "flip_milliseconds": switch["flip_milliseconds"],
        "first_request_milliseconds": switch["first_request_milliseconds"],
        "streams_open_at_switch": switch["streams_open_at_switch"],
        "streams_open_at_flip": {slot: switch["before"][slot]["open"] for slot in SLOTS},
        "streams_completed": max(0, switch["streams_open_at_switch"] - gone),
        "streams_left_by_client": flip[old].left_by_client,
        "streams_cut": sum(one.cut_by_server for one in began.values()),
        "streams_still_open": left_open,
        "longest_drain_seconds": round(max(drain_seconds, switch["drained_seconds"]), 1),
        "longest_queue_wait_seconds": switch["queued_seconds"],
        "requests_since": flip[active].total,
        "requests_by_release": {name: count for name, count in releases.items() if name},
        "requests_failed": sum(one.failed for one in began.values()),
        "seconds_watched": round(seconds, 1),
    }


def last_switch(state: State) -> Switch:
    assert state.moves.switch is not None, "nothing has been switched yet"
    return state.moves.switch


def write_receipt(env: Environment, state: State, found: Receipt) -> None:
    """Named by the moment of the flip: written again after a kill, it is the same file."""
    name = f"{last_switch(state)['at'].replace(':', '')}.json"
    write_json(env.folder / "receipts" / name, found)


def receipt_of_rollback(env: Environment, state: State, drain_seconds: float = 0.0) -> Receipt:
    """As it is now. A rollback is not baked, so its receipt is written at the switch; `longest_drain_seconds` is how
    long streams were seen to last."""
    switch, traffic = last_switch(state), env.router.traffic()
    seconds = seconds_between(switch["at"], datetime.now(UTC).isoformat())
    is_open = switch["from"] and traffic[switch["from"]].open
    return receipt(state, "rollback", traffic, seconds, seconds if is_open else drain_seconds)


def read_receipts(env: Environment) -> list[Receipt]:
    """Oldest first. The last rollback's is brought up to date while it is the last word: when it was written, its
    streams had not ended."""
    paths = sorted((env.folder / "receipts").glob("*.json"))
    found: list[Receipt] = [json.loads(path.read_text(encoding="utf8")) for path in paths]
    state = env.record.state()
    switch = state.moves.switch
    if switch is None or not (state.wanted.rollback and state.active and env.router.is_running()):
        return found
    if switch["at"] < max((one["at"] for one in found), default="-"):
        return found
    written = [one for one in found if one["at"] == switch["at"]]
    now = receipt_of_rollback(env, state, written[0]["longest_drain_seconds"] if written else 0.0)
    return [one for one in found if one not in written] + [now]


def last_receipt(env: Environment) -> Receipt:
    """Raises RefusedError where no deploy has ended yet."""
    found = read_receipts(env)
    if not found:
        raise RefusedError(
            f"{env.config.name}: no deploy has come to its end yet", hint=f"tunegate status {env.config.name}"
        )
    return found[-1]


def in_one_line(found: Receipt) -> str:
    ended = (
        f"{found['streams_completed']} completed, {found['streams_cut']} cut, "
        f"{found['streams_left_by_client']} left by client"
    )
    streams = f"{found['streams_open_at_switch']} streams open at the flip, {ended}"
    return (
        f"{found['at'][:19]}  {found['strategy']}: {streams}, "
        f"longest drain {found['longest_drain_seconds']} s; flip {found['flip_milliseconds']} ms; "
        f"{found['requests_failed']} requests failed"
    )


def for_people(found: Mapping[str, object]) -> dict[str, str]:
    """A line a figure, in the receipt's own names; releases as short as in lists of them."""
    return {name.replace("_", " "): format_value(value) for name, value in found.items() if value is not None}


def format_value(value: object) -> str:
    if isinstance(value, dict) and value.keys() == {"slot", "release"}:
        return f"{value['slot']}  {short(value['release'])}" if value["slot"] else "nothing"
    if isinstance(value, dict):
        return ", ".join(f"{short(name)}: {item}" for name, item in value.items())
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)
