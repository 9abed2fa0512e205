"""The receipt of a deploy or a rollback: what became of every stream and request, from the router's own counters. JSON
under state_dir/receipts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime

from configs.errors import RefusedError
from configs.release import short
from configs.slots import SLOTS, SlotName, other
from infra.boot import Moment, now
from infra.files.atomic import write_json
from infra.haproxy.lost import LostRequest, LostRequests
from infra.haproxy.servers import Traffic
from serve.record.environment import Environment
from serve.record.event import Event
from serve.record.facts import Receipt, TrafficCounts
from serve.record.state import State, Switch

NONE_LOST: LostRequests = {"named": [], "more": 0}


def since(seen: Traffic, before: TrafficCounts) -> Traffic:
    """What was counted after `before`; all of it, where the router was restarted in between and began at zero."""
    start = before if seen.total >= before["total"] else dict.fromkeys(before, 0)
    return Traffic(
        **{name: value if name == "open" else max(0, value - start[name]) for name, value in vars(seen).items()}
    )


def receipt(
    state: State,
    strategy: str,
    traffic: Mapping[SlotName, Traffic],
    seconds: float,
    drain_seconds: float,
    unanswered: int | None = None,
    lost: LostRequests | None = None,
) -> Receipt:
    """Streams are counted from the flip, requests from the first share that the new release got. `drain_seconds`: until
    the old slot's last stream ended; `unanswered`: the router's count now, which begins again at zero with it;
    `lost`: since the moment `began`."""
    switch, active = last_switch(state), state.active
    assert active is not None
    old: SlotName = other(active)
    flip = {slot: since(traffic[slot], switch["before"][slot]) for slot in SLOTS}
    began = {slot: since(traffic[slot], switch["began_before"][slot]) for slot in SLOTS}
    left_open = flip[old].open if switch["from"] else 0
    releases = {
        state.release_of(active): began[active].total,
        switch["from_release"]: began[old].total if switch["from"] else 0,
    }
    gone = left_open + flip[old].cut_by_server + flip[old].left_by_client
    found: Receipt = {
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
        "requests_unanswered": since_start(unanswered, switch.get("began_unanswered")),
        "seconds_watched": round(seconds, 1),
    }
    if (flips := switch.get("flip_milliseconds_by_router")) is not None:
        found["flip_milliseconds_by_router"] = flips
    if lost is not None:
        found["lost"] = lost
    return found


def since_start(now: int | None, before: int | None) -> int | None:
    if now is None or before is None:
        return None
    return now - before if now >= before else now


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
    seconds = now().since(switch["moment"])
    is_open = switch["from"] and traffic[switch["from"]].open
    drained = seconds if is_open else drain_seconds
    return receipt(state, "rollback", traffic, seconds, drained, env.router.unanswered(), lost_of(env, state))


def lost_of(env: Environment, state: State) -> LostRequests:
    """Until now."""
    return env.router.lost(last_switch(state)["began"], now())


def read_receipts(env: Environment) -> list[Receipt]:
    """Oldest first, by the record: the clock may have been set back. The last rollback's is brought up to date while it
    is the last word: when it was written, its streams had not ended."""
    state, switches = env.record.state(), list(moments_of_switches(env.record.back()))[::-1]
    paths = sorted((env.folder / "receipts").glob("*.json"))
    found: list[Receipt] = [json.loads(path.read_text(encoding="utf8")) for path in paths]
    found.sort(key=lambda one: switches.index(one["at"]) if one["at"] in switches else -1)
    switch = state.moves.switch
    is_back = state.wanted.rollback and state.active and state.release_of(state.active) == state.wanted.desired
    if switch is None or not (is_back and env.router.is_running()):
        return found
    written = [one for one in found if one["at"] == switch["at"]]
    latest = receipt_of_rollback(env, state, written[0]["longest_drain_seconds"] if written else 0.0)
    return [one for one in found if one not in written] + [latest]


def moments_of_switches(events: Iterable[Event]) -> list[str]:
    """A receipt bears its switch's."""
    return [event.at for event in events if event.kind == "switched"]


def last_receipt(env: Environment) -> Receipt:
    """Raises RefusedError where no deploy has ended yet."""
    found = read_receipts(env)
    if not found:
        raise RefusedError(
            f"{env.config.name}: no deploy has come to its end yet", hint=f"tunegate status {env.config.name}"
        )
    last = found[-1]
    if "lost" in last:
        last["lost_since"] = without(env.router.lost(end_of(env, last), now()), last["lost"])
    return last


def end_of(env: Environment, found: Receipt) -> Moment:
    """When it was written, or a little before: its seconds are rounded."""
    switch, seconds = env.record.state().moves.switch, found["seconds_watched"] - 0.1
    if switch and switch["at"] == found["at"]:
        at, boot, uptime = switch["moment"]
        return Moment(at + seconds, boot, uptime + seconds)
    return Moment(datetime.fromisoformat(found["at"]).timestamp() + seconds)


def without(lost: LostRequests, known: LostRequests) -> LostRequests:
    names = [one["request_id"] for one in known["named"]]
    return {**lost, "named": [one for one in lost["named"] if one["request_id"] not in names]}


def in_one_line(found: Receipt) -> str:
    ended = (
        f"{found['streams_completed']} completed, {found['streams_cut']} cut, "
        f"{found['streams_left_by_client']} left by client"
    )
    doubt = f"; inconclusive, accepted by {by}" if (by := found.get("accepted_by")) else ""
    lost = f", {unanswered} got no server" if (unanswered := found.get("requests_unanswered")) else ""
    streams = f"{found['streams_open_at_switch']} streams open at the flip, {ended}"
    return (
        f"{found['at'][:19]}  {found['strategy']}: {streams}, "
        f"longest drain {found['longest_drain_seconds']} s; flip {found['flip_milliseconds']} ms; "
        f"{found['requests_failed']} requests failed{lost}{doubt}"
    )


def for_people(found: Mapping[str, object]) -> dict[str, str]:
    """A line a figure, in the receipt's own names; releases as short as in lists of them."""
    return {
        name.replace("_", " "): format_value(value) for name, value in found.items() if value not in (None, NONE_LOST)
    }


def format_value(value: object) -> str:
    if isinstance(value, dict) and value.keys() == {"slot", "release"}:
        return f"{value['slot']}  {short(value['release'])}" if value["slot"] else "nothing"
    if isinstance(value, dict) and value.keys() == {"named", "more"}:
        more = [f"and {value['more']} more"] if value["more"] else []
        return "\n".join([*map(format_lost, value["named"]), *more])
    if isinstance(value, dict):
        return ", ".join(f"{short(name)}: {item}" for name, item in value.items())
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)


def format_lost(one: LostRequest) -> str:
    server = one["slot"] if one["server"] == "-" else one["server"]
    end = f"{one['termination']} {one['status']}  {one['bytes_out']} bytes"
    return f"{one['at']}  {server}  {end}  {one['key']}  {one['request_id']}"
