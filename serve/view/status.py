"""What an operator asks first: where the traffic goes, what serves, what is under way. Reads only; needs no lock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from configs.release import short
from configs.slots import SLOTS, SlotName
from serve.plan.planner import plan
from serve.record.drift_reasons import difference
from serve.record.environment import Environment, holder_of
from serve.record.receipt import in_one_line, read_receipts
from serve.record.state import PROOF, State
from serve.view.events import plain

if TYPE_CHECKING:
    from rich.console import RenderableType

LAST_EVENTS = 8


def status(env: Environment) -> dict[str, Any]:
    """Everything at once, as JSON would have it."""
    state = env.record.state()
    seen, events = env.observe(state), [event for event in env.record.read() if event.kind != "acquired"]
    traffic, holder, receipts = env.router.traffic() if seen.door_open else {}, holder_of(env), read_receipts(env)

    def slot(name: SlotName) -> dict[str, Any]:
        found, server = state.slots[name], env.process(state, name)
        return {
            "release": found.release if found else None,
            "server": f"127.0.0.1:{server.port}{server.prefix}" if server else None,
            "alive": name in seen.alive,
            "weight": seen.weights.get(name, 0),
            "proofs": [proof for proof in PROOF if found and proof in found.proofs],
            "open_streams": traffic[name].open if traffic else 0,
            "requests": traffic[name].total if traffic else 0,
        }

    return {
        "environment": env.config.name,
        "door": {"url": env.router.base_url, "open": seen.door_open, "sends_to": seen.routed},
        "active": state.active,
        "desired": state.desired,
        "git": git_of(state),
        "difference": difference(state, env.config.release),
        "refused": state.refused,
        "next": plan(state, env.config, seen).kind,
        "paused": state.paused,
        "held": state.held,
        "paged": state.paged,
        "holder": holder.facts | {"since": holder.at} if holder else None,
        "slots": {name: slot(name) for name in SLOTS},
        "receipt": in_one_line(receipts[-1]) if receipts else None,
        "events": [{"at": event.at, "kind": event.kind, "slot": event.slot, "why": event.facts.get("why")} for event in events[-LAST_EVENTS:]],
    }


def git_of(state: State) -> dict[str, Any] | None:
    """The branch that the environment follows, where it stands or why it stays; the commit that pinned, who made it, and its merge request if known."""
    if state.follows is None:
        return None
    known = state.reported.get("merge_request") if state.reported.get("commit") == state.commit else None
    return {"follows": state.follows, "at": state.pulled.get("commit"), "stays_because": state.pulled.get("why")} | {
        "commit": state.commit,
        "author": state.author,
        "merge_request": known,
        "rollback": state.proposed or None,
    }


def as_tables(seen: dict[str, Any]) -> RenderableType:
    """The same for people."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    slots = Table(title=f"{seen['environment']}   {seen['door']['url']}   door {'open' if seen['door']['open'] else 'closed'}", title_justify="left")
    timed = any("first_token_ms" in one for one in seen["slots"].values())  # only `--watch` asks vLLM
    numbers = ("share", "open streams", "requests", *(["first token p50 / p95"] if timed else []))
    for column in ("slot", "release", "server", *numbers, "proofs"):
        slots.add_column(column, justify="right" if column in numbers else "left")
    for name, one in seen["slots"].items():
        server = "alive" if one["alive"] else "dead" if one["release"] else "-"
        figures = [f"{one['weight']} %", str(one["open_streams"]), str(one["requests"]), *([in_milliseconds(one["first_token_ms"])] if timed else [])]
        slots.add_row(f"{name} *" if name == seen["active"] else name, short(one["release"]), server, *figures, " ".join(one["proofs"]) or "-")
    events = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for event in seen["events"]:
        events.add_row(event["at"][11:19], event["kind"], event["slot"] or "", escape(plain(event["why"] or "")[:100]))
    facts = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in standing(seen).items():
        facts.add_row(name, escape(plain(value)))  # a reason may quote a server's log, and that has brackets
    return Group(slots, facts, "", events)


def standing(seen: dict[str, Any]) -> dict[str, str]:
    """What is not so is left out."""
    holder = seen["holder"]
    flags = [name for name in ("paused", "held") if seen[name]]
    found = {
        "desired": short(seen["desired"]),
        **said_of_git(seen),
        "next": f"{seen['next']}{'  (' + ', '.join(flags) + ')' if flags else ''}",
        "refused": seen["refused"],
        "paged": seen["paged"],
        "holder": f"{holder['command']} {holder['pid']} since {holder['since'][11:19]}" if holder else None,
        "last deploy": seen["receipt"],
    }
    return {name: str(value) for name, value in found.items() if value}


def said_of_git(seen: dict[str, Any]) -> dict[str, str | None]:
    """Git and what serves never differ in silence."""
    git, differs = seen["git"] or {}, seen["difference"]
    request = git.get("merge_request")
    iid = f", !{request['iid']}" if request else ""
    pinned_by = f"{git['commit'][:12]} by {git['author']}{iid}" if git.get("commit") else None
    at = f"{git['follows']} at {str(git['at'])[:12]}" if git else None
    link = f"; merge {differs['merge_request']}" if differs and "merge_request" in differs else ""
    return {
        "git": f"{at}, and stays there: {git['stays_because']}" if git.get("stays_because") else at,
        "pinned by": pinned_by,
        "differs": f"pinned {short(differs['pinned'])}, serves {short(differs['serves'])}: {differs['why']}{link}" if differs else None,
    }


def in_milliseconds(times: dict[str, float] | None) -> str:
    return f"{times['p50']:g} / {times['p95']:g} ms" if times else "-"
