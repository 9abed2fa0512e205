"""What each key used of each release, as counters that only grow: the lines of the ledger (infra/vllm/usage.py) are
read on from where the last reading ended, by whoever holds the environment then."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from configs.release import short
from infra.files.atomic import read_json, write_private
from serve.exporter.figures import label

if TYPE_CHECKING:
    from prometheus_client import Metric

MOST_SERIES = 1_000  # a token's `sub` is a key too, and there may be millions
OTHERS = "(others)"
UNUSED_SECONDS = 30 * 86_400.0
Pair = tuple[str, str]  # key and release


class Used(NamedTuple):
    """`last`: when its last request began, seconds since the epoch."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    last: float = 0.0


@dataclass
class UsageCounters:
    """`snapshot` holds the sums and how far each file was read: what was removed since stays counted. Without it
    the files that are there are counted anew."""

    folder: Path
    snapshot: Path
    sums: dict[Pair, Used] = field(default_factory=dict)
    read_to: dict[str, int] = field(default_factory=dict)
    is_restored: bool = False
    found: Mapping[Pair, Used] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self) -> Mapping[Pair, Used]:
        """As of now; where another thread reads, which may take long the first time, as of the last time."""
        if self.lock.acquire(blocking=False):
            try:
                self.read_on()
            finally:
                self.lock.release()
        return self.found

    def read_on(self) -> None:
        if not self.is_restored:
            self.restore()
            self.is_restored = True
        files = {path.name: path for path in self.folder.glob("*.jsonl")}
        before = dict(self.read_to)
        self.read_to = {name: self.read_to.get(name, 0) for name in files}
        for name, path in sorted(files.items()):
            self.read_file(name, path)
        self.found = dict(self.sums)
        if self.read_to != before:
            self.keep()

    def read_file(self, name: str, path: Path) -> None:
        """Whole lines alone. One that was cut begins anew."""
        with suppress(OSError), path.open("rb") as stream:  # it was removed, or the disk fails: the rest another time
            if os.fstat(stream.fileno()).st_size < self.read_to[name]:
                self.read_to[name] = 0
            stream.seek(self.read_to[name])
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                self.read_to[name] += len(line)
                self.count(line)

    def count(self, line: bytes) -> None:
        """A line that is torn or no row is passed over, as `tunegate usage` does."""
        try:
            row = json.loads(line)
            at, key, release = float(row["at"]), label(row.get("key")), label(short(row.get("release")))
            tokens = [max(0, int(row.get(name, 0))) for name in ("prompt_tokens", "completion_tokens")]
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            return
        pair = self.room_for((key, release), at)
        was = self.sums.get(pair, Used())
        self.sums[pair] = Used(
            was.requests + 1, was.prompt_tokens + tokens[0], was.completion_tokens + tokens[1], max(was.last, at)
        )

    def room_for(self, pair: Pair, at: float) -> Pair:
        """That pair, or the one for all others of its release, where too many are in use."""
        if pair not in self.sums and len(self.sums) >= MOST_SERIES:
            self.sums = {one: used for one, used in self.sums.items() if used.last > at - UNUSED_SECONDS}
            if len(self.sums) >= MOST_SERIES:
                return OTHERS, pair[1]
        return pair

    def restore(self) -> None:
        try:
            facts = read_json(self.snapshot) or {}
            self.read_to = {str(name): int(position) for name, position in facts["read_to"].items()}
            self.sums = {(str(key), str(release)): Used(*used) for key, release, *used in facts["sums"]}
        except (KeyError, ValueError, TypeError, AttributeError):
            self.sums, self.read_to = {}, {}

    def keep(self) -> None:
        """A full disk must not end it: then the next one that starts reads more."""
        facts = {"read_to": self.read_to, "sums": [[*pair, *used] for pair, used in self.sums.items()]}
        with suppress(OSError):
            write_private(self.snapshot, json.dumps(facts))


def usage_figures(found: Mapping[Pair, Used]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily

    words = {
        "requests": "Requests that the model servers answered",
        "prompt_tokens": "Tokens of their prompts",
        "completion_tokens": "Tokens of their answers",
    }
    for name, said in words.items():
        family = CounterMetricFamily(f"tunegate_usage_{name}", said, labels=["key", "release"])
        for pair, used in found.items():
            family.add_metric(pair, getattr(used, name))
        yield family
