"""The slots' pods, by a watch, which is quick and may miss a word, and by a list every few seconds, which misses
none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from configs.errors import TunegateError
from infra.kubernetes.api import Cluster
from infra.kubernetes.pods import KnownPods, pod_of, version_of

LIST_SECONDS = 2.5
LIST_TIMEOUT = 5.0
WATCH_SECONDS = 60
RETRY_SECONDS = 0.5


@dataclass
class Follower:
    """`say` gets a line where the API server falls silent, and one where it is back; `also` is done after each list."""

    cluster: Cluster
    labels: Mapping[str, str]
    known: KnownPods
    say: Callable[[str], None]
    also: Callable[[], None]
    is_silent: bool = False

    def start(self) -> None:
        """Two threads, which end with the process: a watch that hangs keeps no list from being read."""
        for part in (self.keep_listing, self.keep_watching):
            threading.Thread(target=part, daemon=True, name=part.__name__).start()

    def keep_listing(self) -> None:
        while True:
            began = time.monotonic()
            try:
                self.list_once()
                self.also()
            except (TunegateError, OSError, ValueError, KeyError) as error:
                self.note(f"pods stay as they were last known: {words_of(error)}")
            else:
                self.note("")
            time.sleep(max(RETRY_SECONDS, LIST_SECONDS - (time.monotonic() - began)))

    def note(self, silence: str) -> None:
        if bool(silence) != self.is_silent:
            self.say(silence or "Kubernetes' API answers again")
        self.is_silent = bool(silence)

    def list_once(self) -> str:
        items, version = self.cluster.find("Pod", self.labels, cached=True)
        self.known.take_list(map(pod_of, items), version_of(version))
        return version

    def keep_watching(self) -> None:
        while True:
            try:
                version = self.list_once()
                for kind, item in self.cluster.watch("Pod", self.labels, version, WATCH_SECONDS):
                    if kind != "BOOKMARK":
                        self.known.take_word(kind, pod_of(item))
            except (TunegateError, OSError, ValueError, KeyError):
                pass  # the lists say so
            time.sleep(RETRY_SECONDS)


def words_of(error: Exception) -> str:
    return error.message if isinstance(error, TunegateError) else f"{type(error).__name__}: {error}"
