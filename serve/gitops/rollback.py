"""Why a release was rolled back, for whoever merges the pin: from the record and the receipts, as Markdown. Pure but
for the files it lists."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass

from configs.release import short
from serve.record.environment import Environment
from serve.record.event import Event, in_one_line, plain
from serve.record.facts import Receipt
from serve.record.receipt import format_value, moments_of_switches, read_receipts
from serve.record.state import State

FIXED = (
    "strategy",
    "breach",
    "flip_milliseconds",
    "first_request_milliseconds",
    "streams_open_at_switch",
)  # whenever it is read
NUMBERS = (
    *FIXED,
    "streams_completed",
    "streams_cut",
    "requests_by_release",
    "requests_failed",
    "seconds_watched",
    "watch",
)
SHOWN_KINDS = (
    "desired", "refused", "stepped", "analysed", "switched", "baked", "inconclusive", "crashed", "aborted", "paged",
    "failed",
)  # fmt: skip
MOST_LINES = 20


@dataclass(frozen=True)
class Rollback:
    """`gone` is what the branch still pins, `back` what serves instead, since `at`; `pinned_by` the commit that pinned
    it, where one did."""

    environment: str
    gone: str
    back: str
    why: str
    at: str
    pinned_by: str | None
    receipt: Receipt | None
    events: tuple[Event, ...]
    files: tuple[str, ...]

    @property
    def branch(self) -> str:
        """Named by what it takes away: the same rollback is the same branch, whoever writes it."""
        return f"rollback/{self.environment}-{self.gone.partition(':')[2][:12]}"

    @property
    def title(self) -> str:
        return f"Roll {self.environment} back to {short(self.back)}"

    @property
    def message(self) -> str:
        """The commit's: what a reader of `git log` needs; made again, the same words, so that it is the same commit."""
        numbers = "".join(f"{name}: {value}\n" for name, value in self.numbers(FIXED).items())
        by = f"\nIt was pinned by {self.pinned_by}." if self.pinned_by else ""
        why = f"{short(self.gone)} was rolled back at {self.at[:19]}Z: {plain(self.why)}.{by}"
        return f"{self.title}\n\n{why}\n\n{numbers}".rstrip() + "\n"

    @property
    def description(self) -> str:
        """The merge request's."""
        rows = "".join(f"| {name} | {cell(value)} |\n" for name, value in self.numbers(NUMBERS).items())
        lines = "".join(f"{in_one_line(event)}\n" for event in self.events[-MOST_LINES:])
        files = "".join(f"- `{name}`\n" for name in self.files)
        return (
            f"`{self.environment}` serves **{short(self.back)}** again. Its pin still says {short(self.gone)}"
            f"{f', by {self.pinned_by}' if self.pinned_by else ''}; this commit writes back what serves.\n\n"
            f"**Why** ({self.at[:19]}Z): {cell(self.why)}\n\n"
            f"{f'| receipt | |{chr(10)}|---|---|{chr(10)}{rows}{chr(10)}' if rows else ''}"
            f"```\n{lines.replace('```', '')}```\n\nOn the machine of the agent, `{socket.gethostname()}`:\n{files}\n"
            "Until this is merged, or another release pinned, the agent holds what serves; it does not try the old pin "
            "again. Close it unmerged only with another pin.\n"
        )

    def numbers(self, names: tuple[str, ...]) -> dict[str, str]:
        receipt: Mapping[str, object] = self.receipt or {}
        shown = [name for name in names if receipt.get(name) not in (None, [], {})]
        return {name.replace("_", " "): plain(format_value(receipt[name])) for name in shown}


def cell(text: str) -> str:
    """As code: a reason may quote a server's log, and nothing of that is markup, nor calls anybody by name."""
    return f"`{plain(text).replace('`', chr(39)).replace('|', chr(92) + '|')}`"


def rollback_of(env: Environment, state: State, gone: str) -> Rollback:
    """What the record says of the rollback from `gone`, the newest of it."""
    events = env.record.read()
    began = max(
        (place for place, event in enumerate(events) if event.kind == "desired" and event.facts.get("release") == gone),
        default=0,
    )
    shown = tuple(event for event in events[began:] if event.kind in SHOWN_KINDS)
    back = str(state.wanted.desired)
    at = next(
        (
            event.at
            for event in reversed(events)
            if event.kind in ("desired", "aborted") and event.facts.get("release", back) == back
        ),
        events[-1].at,
    )
    switches = moments_of_switches(events[began:])
    receipts = [one for one in read_receipts(env) if one["at"] in switches]
    breached = [one for one in receipts if one["to"]["release"] == gone and "breach" in one]
    went_back = [one for one in receipts if one["from"]["release"] == gone]
    receipt = (breached or went_back)[-1] if breached or went_back else None
    paths = [
        env.record.path,
        *sorted((env.folder / "receipts").glob("*.json"))[-1:],
        *sorted(env.folder.glob("loadtest/**/report.html")),
    ]
    by = f"{state.wanted.commit[:12]} ({state.wanted.author})" if state.wanted.commit else None
    why = state.wanted.why or "rolled back"
    return Rollback(
        env.config.name, gone, back, why, at, by, receipt, shown, tuple(str(path.absolute()) for path in paths)
    )
