"""What keys really used, from the lines that the slots' servers write (infra/vllm/usage.py): by key, release, path or
day."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, TypedDict, get_args

from serve.record.environment import Environment

By = Literal["key", "release", "path", "day"]
BY = get_args(By)


class UsageRow(TypedDict):
    """`left`: requests whose client left before the end; their tokens, as far as they came, are counted."""

    group: str
    requests: int
    left: int
    prompt_tokens: int
    completion_tokens: int


def usage(env: Environment, by: By, since: float, until: float) -> list[UsageRow]:
    """Seconds since the epoch. The most tokens first; by day, the oldest."""
    return summed(read_usage(env.folder / "usage", since, until), by)


def read_usage(folder: Path, since: float, until: float) -> Iterator[dict[str, Any]]:
    """A line that is torn or no row is passed over."""
    for path in sorted(folder.glob("*.jsonl")):
        with path.open(encoding="utf8", errors="replace") as lines:
            for line in lines:
                try:
                    row = json.loads(line)
                    if since <= row["at"] < until:
                        yield row
                except (ValueError, KeyError, TypeError):
                    continue


def summed(rows: Iterable[dict[str, Any]], by: By) -> list[UsageRow]:
    found: dict[str, UsageRow] = {}
    counted: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in rows:
        one = counted[group_of(row, by)]
        one["requests"] += 1
        one["left"] += not row.get("ended", True)
        one["prompt_tokens"] += int(row.get("prompt_tokens", 0))
        one["completion_tokens"] += int(row.get("completion_tokens", 0))
    for group, one in counted.items():
        found[group] = {
            "group": group,
            "requests": one["requests"],
            "left": one["left"],
            "prompt_tokens": one["prompt_tokens"],
            "completion_tokens": one["completion_tokens"],
        }
    if by == "day":
        return [found[group] for group in sorted(found)]
    return sorted(found.values(), key=lambda one: (-one["prompt_tokens"] - one["completion_tokens"], one["group"]))


def group_of(row: dict[str, Any], by: By) -> str:
    if by == "day":
        from datetime import UTC, datetime

        return f"{datetime.fromtimestamp(row['at'], UTC):%Y-%m-%d}"
    return str(row.get(by) or "-")
