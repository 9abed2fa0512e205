"""Whose words lie where: the log of each server, of the router and of the agent."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from configs.errors import InputError
from configs.slots import SLOTS
from serve.record.environment import Environment
from serve.view.tail import Tail

LOGS = {"blue": "blue.log", "green": "green.log", "router": "router/haproxy.log", "agent": "agent.log"}
AGENT_LOG_BYTES = 5_000_000


def log_of(env: Environment, source: str) -> Path:
    """Raises InputError for an unknown name, or where that one has not said anything yet."""
    name = env.config.name
    if source not in LOGS:
        raise InputError(
            f"found the slot {source!r}, expected one of {', '.join(LOGS)}", hint=f"tunegate logs {name} --slot blue"
        )
    process = env.process(env.record.state(), source) if source in SLOTS else None  # which may be the other slot's too
    path = process.log if process else env.folder / LOGS[source]
    if not path.exists():
        there = [one for one, file in LOGS.items() if (env.folder / file).exists()]
        hint = f"tunegate logs {name} --slot {there[0]}" if there else f"tunegate status {name}"
        raise InputError(
            f"{source} of {name} has no log yet: no {path}; there is one of: {', '.join(there) or 'none'}", hint=hint
        )
    return path


def read_log(
    path: Path, lines: int, *, follow: bool = False, ended: Callable[[], bool] = lambda: False
) -> Iterator[str]:
    """The last `lines`, an unfinished one among them unless it is followed; then, with `follow`, what comes, until
    `ended`."""
    tail = Tail(path)
    last = deque(tail.read(), maxlen=lines)
    if tail.rest and not follow:
        last.append(tail.rest.decode("utf8", "replace"))
    yield from last
    if follow:
        yield from tail.follow(ended)


def keeping(report_progress: Callable[[str], None], path: Path) -> Callable[[str], None]:
    """`report_progress` that also writes into `path`, with the moment (UTC). A full disk must not end the agent: then
    the line is only shown."""

    def report(line: str) -> None:
        report_progress(line)
        with contextlib.suppress(OSError):
            if path.exists() and path.stat().st_size > AGENT_LOG_BYTES:
                path.replace(path.with_suffix(".log.1"))
            with path.open("a", encoding="utf8") as stream:
                stream.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {line}\n")

    return report
