"""Whose words lie where: the log of each server, of the router and of the agent."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from configs.errors import InputError
from configs.slots import SLOTS, SlotName
from infra.haproxy.servers import server_names
from infra.kubernetes.slot import SlotPods
from serve.record.environment import Environment
from serve.view.tail import Tail
from serve.view.tail import follow as follow_all

LOGS = {"blue": "blue.log", "green": "green.log", "router": "router/haproxy.log", "agent": "agent.log"}
AGENT_LOG_BYTES = 5_000_000


def logs_of(env: Environment, source: str, server: int | None = None) -> dict[str, Path]:
    """By the name that HAProxy has for it: of a slot each of its servers', or that of one (`server`, from 1).

    Raises InputError for an unknown name or number, or where none of them has said anything yet.
    """
    name = env.config.name
    if source not in LOGS:
        raise InputError(
            f"found the slot {source!r}, expected one of {', '.join(LOGS)}", hint=f"tunegate logs {name} --slot blue"
        )
    if server is not None and source not in SLOTS:
        raise InputError(
            f"found --server {server} with --slot {source}, expected it with {' or '.join(SLOTS)}",
            hint=f"tunegate logs {name} --slot {source}",
        )
    found = slot_logs(env, source, server) if source in SLOTS else {source: env.folder / LOGS[source]}
    there = {mark: path for mark, path in found.items() if path.exists()}
    if not there:
        others = [one for one, file in LOGS.items() if (env.folder / file).exists()]
        hint = f"tunegate logs {name} --slot {others[0]}" if others else f"tunegate status {name}"
        expected = f"no {', no '.join(map(str, found.values()))}; there is one of: {', '.join(others) or 'none'}"
        raise InputError(f"{source} of {name} has no log yet: {expected}", hint=hint)
    return there


def slot_logs(env: Environment, slot: SlotName, server: int | None) -> dict[str, Path]:
    """Of the servers on record, which may live in the other slot's; where none is, as they would be called."""
    state = env.record.state()
    found, pods = state.slots[slot], env.server(state, slot)
    if isinstance(pods, SlotPods):
        raise InputError(f"{slot} of {env.config.name} is pods, which keep their own logs", hint=pods.hint)
    recorded = {number: Path(one.process["log"]) for number, one in found.servers.items()} if found else {}
    paths = recorded or {number: env.log_path(slot, number) for number in range(env.config.slots.servers)}
    names = dict(enumerate(server_names(slot, max(paths) + 1)))
    if server is not None and server - 1 not in paths:
        there = ", ".join(names[number] for number in sorted(paths))
        raise InputError(
            f"found --server {server}, and {slot} of {env.config.name} has {len(paths)}: {there}",
            hint=f"tunegate logs {env.config.name} --slot {slot}",
        )
    wanted = sorted(paths) if server is None else [server - 1]
    return {names[number]: paths[number] for number in wanted}


def read_logs(
    logs: Mapping[str, Path], lines: int, *, follow: bool = False, ended: Callable[[], bool] = lambda: False
) -> Iterator[str]:
    """The last `lines` of each, an unfinished one among them unless it is followed; then, with `follow`, what comes,
    until `ended`. Where there are several, each line after its log's name."""
    tails = {f"{mark}  " if len(logs) > 1 else "": Tail(path) for mark, path in logs.items()}
    for mark, tail in tails.items():
        last = deque(tail.read(), maxlen=lines)
        if tail.rest and not follow:
            last.append(tail.rest.decode("utf8", "replace"))
        yield from (f"{mark}{line}" for line in last)
    if follow:
        yield from (f"{mark}{line}" for mark, line in follow_all(tails, ended))


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
