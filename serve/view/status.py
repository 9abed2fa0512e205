"""What an operator asks first: where the traffic goes, what serves, what is under way. Reads only; needs no lock."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from configs.release import short
from configs.slots import SLOTS, SlotName
from infra.kubernetes.slot import SlotPods
from serve.plan.observe import observe
from serve.plan.planner import plan
from serve.record.drift import difference
from serve.record.environment import Environment, holder_of
from serve.record.event import PROOF, plain
from serve.record.receipt import in_one_line, read_receipts
from serve.record.standing import GitStanding, RouterStanding, SlotStanding, Standing
from serve.record.state import State

if TYPE_CHECKING:
    from rich.console import RenderableType

LAST_EVENTS = 8


def status(env: Environment) -> Standing:
    """Everything at once, as JSON would have it."""
    state = env.record.state()
    seen = observe(env, state)
    events = list(islice((event for event in env.record.back() if event.kind != "acquired"), LAST_EVENTS))[::-1]
    traffic, holder, receipts = env.router.traffic() if seen.router_running else {}, holder_of(env), read_receipts(env)

    running, uncounted = env.servers(state).keys() - seen.died, env.router.uncounted()
    router: RouterStanding = {
        "url": env.router.base_url,
        "running": seen.router_running,
        "sends_to": seen.routed,
    }
    if uncounted:
        router["uncounted"] = uncounted

    def slot(name: SlotName) -> SlotStanding:
        found, server = state.slots[name], env.server(state, name)
        count = found.count if found else 0
        living = sum(one[0] == name for one in running)
        if isinstance(server, SlotPods):
            count, living = server.count()
        return {
            "release": found.release if found else None,
            "server": server.base_url.removeprefix("http://") if server else None,
            "alive": name in seen.alive,
            **({"asleep": True} if found and found.rest else {}),  # type: ignore[typeddict-item]  # only where it is so
            "servers": {"wanted": count, "alive": living} if found else None,
            "weight": seen.weights.get(name, 0),
            "proofs": [proof for proof in PROOF if found and proof in found.proofs],
            "open_streams": traffic[name].open if traffic else 0,
            "requests": traffic[name].total if traffic else 0,
        }

    doubt: dict[str, str] = {"inconclusive": doubt_of(state)} if state.inconclusive else {}
    held: Any = None
    if holder:
        shown = ("token", "pid", "host", "command", "follows")
        held = {name: value for name, value in holder.items() if name in shown} | {"since": holder["at"]}
    return {
        "environment": env.config.name,
        "state_dir": str(env.folder),
        "router": router,
        "active": state.active,
        "desired": state.wanted.desired,
        "git": git_of(state),
        "difference": difference(state, env.config.release),
        "refused": state.refused,
        "next": plan(state, env.config, seen).kind,
        "paused": state.wanted.paused or state.awaits_person is not None,
        "held": state.wanted.held,
        "paged": state.paged,
        **doubt,  # type: ignore[typeddict-item]  # a key that is there only where it says something
        "holder": held,
        "slots": {name: slot(name) for name in SLOTS},
        "receipt": in_one_line(receipts[-1]) if receipts else None,
        "events": [
            {"at": event.at, "kind": event.kind, "slot": event.slot, "why": event.facts.get("why")} for event in events
        ],
    }


def doubt_of(state: State) -> str:
    found = state.inconclusive
    assert found is not None
    if found["then"] == "extend":
        return f"{found['why']}; watched for {found.get('seconds', 0):g} s more at most"
    return found["why"] + ("; tunegate resume accepts it" if found["then"] == "pause" else "; accepted by a person")


def git_of(state: State) -> GitStanding | None:
    git, wanted = state.git, state.wanted
    if git.follows is None:
        return None
    return {
        "follows": git.follows,
        "at": git.pulled.get("commit"),
        "stays_because": git.pulled.get("why"),
        "commit": wanted.commit,
        "author": wanted.author,
        "merge_request": git.reported.get("merge_request") if git.reported.get("commit") == wanted.commit else None,
        "rollback": git.proposed or None,
    }


def as_tables(seen: Standing) -> RenderableType:
    """The same for people."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    router = f"router {'up' if seen['router']['running'] else 'down'}"
    slots = Table(title=f"{seen['environment']}   {seen['router']['url']}   {router}", title_justify="left")
    timed = any("first_token_ms" in one for one in seen["slots"].values())  # only `--watch` asks vLLM
    numbers = ("share", "open streams", "requests", *(["first token p50 / p95"] if timed else []))
    for column in ("slot", "release", "server", *numbers, "proofs"):
        slots.add_column(column, justify="right" if column in numbers else "left")
    for name, one in seen["slots"].items():
        server = server_words(one)
        figures = [
            f"{one['weight']} %",
            str(one["open_streams"]),
            str(one["requests"]),
            *([in_milliseconds(one["first_token_ms"])] if timed else []),
        ]
        slots.add_row(
            f"{name} *" if name == seen["active"] else name,
            short(one["release"]),
            server,
            *figures,
            " ".join(one["proofs"]) or "-",
        )
    events = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for event in seen["events"]:
        events.add_row(event["at"][11:19], event["kind"], event["slot"] or "", escape(plain(event["why"] or "")[:100]))
    facts = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for label, value in standing(seen).items():
        facts.add_row(label, escape(plain(value)))  # a reason may quote a server's log, and that has brackets
    return Group(slots, facts, "", events)


def word_of(one: SlotStanding) -> str:
    if not one["alive"]:
        return "dead"
    return "asleep" if one.get("asleep") else "alive"


def server_words(one: SlotStanding) -> str:
    """With the count, where a slot is to have several."""
    if one["release"] is None:
        return "-"
    word, servers = word_of(one), one["servers"]
    return f"{servers['alive']} of {servers['wanted']} {word}" if servers and servers["wanted"] > 1 else word


def standing(seen: Standing) -> dict[str, str]:
    """What is not so is left out."""
    holder = seen["holder"]
    flags = [name for name, so in (("paused", seen["paused"]), ("held", seen["held"])) if so]
    found = {
        "desired": short(seen["desired"]),
        **git_lines(seen),
        "next": f"{seen['next']}{'  (' + ', '.join(flags) + ')' if flags else ''}",
        "refused": seen["refused"],
        "paged": seen["paged"],
        "inconclusive": seen.get("inconclusive"),
        "not counted": uncounted_words(seen["router"].get("uncounted", 0)),
        "holder": f"{holder['command']} {holder['pid']} since {holder['since'][11:19]}" if holder else None,
        "last deploy": seen["receipt"],
        "state": seen["state_dir"],
    }
    return {name: str(value) for name, value in found.items() if value}


def uncounted_words(processes: int) -> str | None:
    if not processes:
        return None
    return f"the open streams of {processes} earlier router process{'es' if processes > 1 else ''}"


def git_lines(seen: Standing) -> dict[str, str | None]:
    """Git and what serves never differ in silence."""
    git, differs = seen["git"], seen["difference"]
    found: dict[str, str | None] = {}
    if git:
        stays = f", and stays there: {git['stays_because']}" if git["stays_because"] else ""
        found["git"] = f"{git['follows']} at {str(git['at'])[:12]}{stays}"
    if git and git["commit"]:
        request = f", !{git['merge_request']['iid']}" if git["merge_request"] else ""
        found["pinned by"] = f"{git['commit'][:12]} by {git['author']}{request}"
    if differs:
        link = f"; merge {differs['merge_request']}" if "merge_request" in differs else ""
        serves = f"pinned {short(differs['pinned'])}, serves {short(differs['serves'])}"
        found["differs"] = f"{serves}: {differs['why']}{link}"
    return found


def in_milliseconds(times: dict[str, float] | None) -> str:
    return f"{times['p50']:g} / {times['p95']:g} ms" if times else "-"
