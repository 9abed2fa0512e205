"""Pods, as who needs them sees them, and what is known of them from lists and watches: each of the two may be late, or
miss a word."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any, NamedTuple

from configs.section import JsonObject
from infra.kubernetes.labels import RELEASE, SLOT

ENDED = ("Succeeded", "Failed")


class Pod(NamedTuple):
    """`address`: empty until it has one. `release`: the label's value. `ready`: by its own probe. `ending`: it was told
    to end, and its open streams go on. `version`: a later word has a larger one (KEP-5504); 0 where it is no number."""

    uid: str
    name: str
    address: str = ""
    slot: str = ""
    release: str = ""
    ready: bool = False
    ending: bool = False
    version: int = 0


def pod_of(item: JsonObject) -> Pod:
    about, status = item["metadata"], item.get("status") or {}
    labels = about.get("labels") or {}
    has_ended = status.get("phase") in ENDED
    return Pod(
        about["uid"],
        about["name"],
        "" if has_ended else status.get("podIP") or "",
        labels.get(SLOT, ""),
        labels.get(RELEASE, ""),
        any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions") or []),
        about.get("deletionTimestamp") is not None,
        version_of(about.get("resourceVersion")),
    )


def version_of(text: Any) -> int:
    return int(text) if isinstance(text, str) and text.isdigit() else 0


class KnownPods:
    """Of one selector. `were_listed`: once at least; `gone`: by uid, the version of the word that it ended. Threads may
    share it; `changed` is set by each word that said something new."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.changed = threading.Event()
        self.were_listed = False
        self.pods: dict[str, Pod] = {}
        self.gone: dict[str, int] = {}

    def all(self) -> list[Pod]:
        with self.lock:
            return list(self.pods.values())

    def take_list(self, found: Iterable[Pod], version: int) -> None:
        """All there were at `version`. Of what a watch said since, the list knows nothing."""
        with self.lock:
            listed = {pod.uid: pod for pod in found if pod.version >= self.gone.get(pod.uid, pod.version)}
            later = {uid: pod for uid, pod in self.pods.items() if pod.version > version and uid not in listed}
            newest = {uid: max(pod, self.pods.get(uid, pod), key=version_in) for uid, pod in listed.items()}
            self.gone = {uid: ended for uid, ended in self.gone.items() if ended > version}
            before, self.pods = self.pods, newest | later
            if not self.were_listed or facts_of(before) != facts_of(self.pods):
                self.changed.set()
            self.were_listed = True

    def take_word(self, kind: str, pod: Pod) -> None:
        """Of a watch: ADDED, MODIFIED or DELETED."""
        with self.lock:
            before = self.pods.get(pod.uid)
            if kind == "DELETED":
                self.gone[pod.uid] = pod.version
                is_news = self.pods.pop(pod.uid, None) is not None
            elif before is None or pod.version >= before.version:
                self.pods[pod.uid] = pod
                is_news = before is None or pod._replace(version=before.version) != before
            else:
                is_news = False
            if is_news:
                self.changed.set()


def facts_of(pods: dict[str, Pod]) -> set[Pod]:
    """Whatever their versions are."""
    return {pod._replace(version=0) for pod in pods.values()}


def version_in(pod: Pod) -> int:
    return pod.version
