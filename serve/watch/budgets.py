"""Budgets of keys: the tokens that each used this day and this month (UTC), by the lines that the model servers write
(infra/vllm/usage.py), and whose budget is spent.

The router refuses the keys of spent.map for the day or month that it says. What is under way goes on to its end, so a
key may go beyond its budget by what it had in flight, and by what it sent until the next look, a second later.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from infra.background import BackgroundTask
from infra.files.atomic import read_json, write_private
from infra.haproxy.api_keys import Key, Keyring
from infra.haproxy.members import read_members
from serve.record.environment import Environment

EVERY_SECONDS = 1.0


class Read(NamedTuple):
    """Of one file, a day and a slot: how far it was read (bytes), and the tokens by key."""

    position: int
    tokens: dict[str, int]


@dataclass
class UsedTokens:
    """`folders`: of usage files, one an environment behind the router; `snapshot`: what was read of those of this
    month, so that a month is read once."""

    folders: Callable[[], list[Path]]
    snapshot: Path
    files: dict[str, Read] = field(default_factory=dict)
    is_restored: bool = False

    def read(self, month: str) -> None:
        """On from where the last reading ended. `month`: 2026-11; others are forgotten."""
        if not self.is_restored:
            self.restore()
        before, self.files = self.files, {}
        for path in sorted(path for folder in self.folders() for path in folder.glob(f"{month}-??-*.jsonl")):
            self.files[str(path)] = read_on(path, before.get(str(path), Read(0, {})))
        if self.files != before:
            with suppress(OSError):  # a full disk: then the next one that starts reads more
                write_private(self.snapshot, json.dumps(self.files))

    def restore(self) -> None:
        self.is_restored = True
        with suppress(ValueError, TypeError, AttributeError):
            found = read_json(self.snapshot) or {}
            self.files = {
                str(name): Read(int(position), {str(key): int(tokens) for key, tokens in used.items()})
                for name, (position, used) in found.items()
            }

    def tokens(self, key: str, period: str) -> int:
        """`period`: a day, 2026-11-28, or a month."""
        found = (one for path, one in self.files.items() if Path(path).name.startswith(period))
        return sum(one.tokens.get(key, 0) for one in found)


def read_on(path: Path, found: Read) -> Read:
    """Whole lines alone; one that is no row is passed over. A file that was cut begins anew."""
    try:
        with path.open("rb") as stream:
            if os.fstat(stream.fileno()).st_size < found.position:
                found = Read(0, {})
            stream.seek(found.position)
            position, tokens = found.position, dict(found.tokens)
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                position += len(line)
                with suppress(ValueError, TypeError, AttributeError):
                    row = json.loads(line)
                    used = int(row.get("prompt_tokens", 0)) + int(row.get("completion_tokens", 0))
                    key = str(row.get("key"))
                    tokens[key] = tokens.get(key, 0) + used
    except OSError:  # it was removed, or the disk fails: another time
        return found
    return Read(position, tokens)


def spent_budgets(keys: list[Key], used: UsedTokens, now: float) -> dict[str, str]:
    """By key's name: the month or the day whose budget is spent, as the router compares it with its clock. `now`:
    seconds since the epoch."""
    moment = time.gmtime(now)
    month, day = time.strftime("%Y-%m", moment), time.strftime("%Y-%m-%d", moment)
    found = {}
    for key in keys:
        for period, most in ((day, key.limits.tokens_per_day), (month, key.limits.tokens_per_month)):
            if most and used.tokens(key.name, period) >= most:
                found[key.name] = period
    return found


@dataclass
class Budgets:
    """Looked at beside the loop; the router is told what changed."""

    used: UsedTokens
    task: BackgroundTask[dict[str, str]] = field(default_factory=lambda: BackgroundTask(EVERY_SECONDS))

    @classmethod
    def of(cls, env: Environment) -> Budgets:
        def folders() -> list[Path]:
            behind = [Path(one["state"]) for one in read_members(env.folder / "router").values()]
            return [folder / "usage" for folder in (env.folder, *behind)]

        return cls(UsedTokens(folders, env.folder / "budgets.snapshot.json"))

    def look(self, env: Environment) -> None:
        """Raises what the last reading failed with. Behind another environment's router that one's holder looks."""
        if env.config.router_of:
            return
        found = self.task.result()
        if found is not None and env.router.is_running() and found != env.router.spent():
            env.router.set_spent(found)
        self.task.begin(lambda: self.find(env))

    def find(self, env: Environment) -> dict[str, str]:
        keys = Keyring(env.config).read()
        limited = [key for key in keys if key.limits.tokens_per_day or key.limits.tokens_per_month]
        now = time.time()
        if limited:
            self.used.read(time.strftime("%Y-%m", time.gmtime(now)))
        return spent_budgets(limited, self.used, now)
