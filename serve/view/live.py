"""`status --watch`: the same picture again and again, with the times to the first token. Whatever fails is shown, and
looked at again."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypedDict, final

from configs.errors import TunegateError
from configs.release import short
from configs.slots import SlotName
from infra.vllm.counters import Counted, Histogram, between, read_metrics
from serve.record.environment import Environment
from serve.record.standing import SlotStanding, Standing
from serve.view.status import as_tables, in_milliseconds, status, word_of

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

WINDOW_SECONDS = 60.0


@final
class Unread(TypedDict):
    error: str


# One look: as `status` has it, or why nothing could be read.
Look = Standing | Unread


@dataclass
class View:
    """`read` gives the environment as its YAML is now. `readings` are vLLM's counters at the looks of the last minute,
    the oldest first."""

    read: Callable[[], Environment]
    readings: deque[tuple[float, dict[SlotName, Counted]]] = field(default_factory=deque)

    def look(self) -> Look:
        """As `status` has it; each slot with `first_token_ms`, None where there is no such figure; only `error` where
        nothing could be read."""
        try:
            env = self.read()
            seen = status(env)
            counted = count(env)
        except (TunegateError, OSError) as error:
            return {"error": str(error)}
        self.keep(counted)
        for name, slot in seen["slots"].items():
            slot["first_token_ms"] = milliseconds(self.window(name))
        return seen

    def keep(self, counted: dict[SlotName, Counted]) -> None:
        now = time.monotonic()
        self.readings.append((now, counted))
        while len(self.readings) > 2 and self.readings[1][0] <= now - WINDOW_SECONDS:
            self.readings.popleft()

    def window(self, slot: SlotName) -> Histogram | None:
        """Over about the last minute of this view; at its first look, or where the server was not read then, since the
        server started."""
        (_, first), (_, last) = self.readings[0], self.readings[-1]
        if slot not in last:
            return None
        return between(first[slot], last[slot]).first if first is not last and slot in first else last[slot].first


def count(env: Environment) -> dict[SlotName, Counted]:
    """vLLM's own counters of the servers that live and answer."""
    state = env.record.state()
    found = {slot: read_metrics(*env.server_urls(state, slot)) for slot in env.alive(state)}
    return {slot: Counted(**facts) for slot, facts in found.items() if facts}


def milliseconds(found: Histogram | None) -> dict[str, float] | None:
    """Linear within vLLM's buckets, so as coarse as they are."""
    if found is None or not found.n:
        return None
    return {name: round(1000 * (found.quantile(share) or 0.0), 1) for name, share in (("p50", 0.5), ("p95", 0.95))}


def picture(seen: Look) -> RenderableType:
    """One look, for a terminal."""
    from rich.console import Group
    from rich.text import Text

    moment = Text(f"{datetime.now(UTC):%H:%M:%S} UTC   Ctrl-C ends the view, and nothing else", style="dim")
    shown = Text(f"error: {seen['error']}", style="red") if "error" in seen else as_tables(seen)
    return Group(shown, "", moment)


def in_one_line(seen: Look) -> str:
    """One look where there is no terminal: a pipe, a log of a pipeline."""
    moment = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}Z"
    if "error" in seen:
        return f"{moment}  error: {' '.join(seen['error'].split())}"
    slots = [one_slot(f"{name}*" if name == seen["active"] else name, slot) for name, slot in seen["slots"].items()]
    states = {name: seen.get(name) for name in ("paused", "inconclusive", "held", "paged", "refused")}
    flags = [name for name, so in states.items() if so]
    return "  ".join(
        [moment, f"router {'up' if seen['router']['running'] else 'down'}", *slots, f"next {seen['next']}", *flags]
    )


def one_slot(name: str, slot: SlotStanding) -> str:
    if slot["release"] is None:
        return f"{name} -"
    server = f"{name} {short(slot['release'])} {word_of(slot)}"
    first = in_milliseconds(slot.get("first_token_ms"))
    return f"{server} {slot['weight']} % {slot['open_streams']} open first token {first}"


def print_lines(view: View, interval_seconds: float, as_json: bool) -> Iterator[str]:
    """Without end: a line a look."""
    while True:
        seen = view.look()
        yield json.dumps(seen, default=str) if as_json else in_one_line(seen)
        time.sleep(interval_seconds)


def show_live(view: View, console: Console, interval_seconds: float) -> None:
    """Without end: the picture is drawn anew in its place. Ctrl-C, or whatever else ends it, gives the terminal
    back."""
    from rich.live import Live

    with Live(picture(view.look()), console=console, auto_refresh=False, screen=True) as live:
        while True:
            time.sleep(interval_seconds)
            live.update(picture(view.look()), refresh=True)
