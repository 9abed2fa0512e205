"""Checkpoints go to the store beside the training, in a thread of their own."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from configs.errors import cause_of
from infra.checkpoints.store import CheckpointStore

ATTEMPTS, FIRST_WAIT_SECONDS = 4, 1.0


@dataclass(frozen=True)
class Upload:
    """`folder`: hard links to the checkpoint's files, which the training may remove meanwhile."""

    folder: Path
    step: int
    best_step: int | None
    facts: dict[str, Any]


@dataclass
class Uploads:
    """One at a time. Of those that wait only the newest and the best go up. One that fails is said and left out: the
    training goes on, and the next one is tried. `resumed_from`: as in CheckpointStore.retain."""

    store: CheckpointStore
    resumed_from: tuple[str, ...]
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr)
    waiting: list[Upload] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    thread: threading.Thread | None = None
    under_way: Upload | None = None

    def add(self, checkpoint: Path, step: int, best_step: int | None, facts: dict[str, Any]) -> None:
        """Returns at once. The checkpoint is whole."""
        upload = Upload(link_files(checkpoint), step, best_step, facts)
        with self.changed:
            for passed_over in [one for one in self.waiting if one.step != best_step]:
                self.waiting.remove(passed_over)
                shutil.rmtree(passed_over.folder, ignore_errors=True)
            self.waiting.append(upload)
            if self.thread is None:
                self.thread = threading.Thread(target=self.run, daemon=True)
                self.thread.start()
            self.changed.notify_all()

    def run(self) -> None:
        while True:
            with self.changed:
                self.under_way = None
                self.changed.notify_all()
                self.changed.wait_for(lambda: self.waiting)
                self.under_way = upload = self.waiting.pop(0)
            self.send(upload)
            shutil.rmtree(upload.folder, ignore_errors=True)

    def send(self, upload: Upload) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self.store.put(upload.folder, upload.step, upload.best_step, upload.facts)
                self.store.retain(upload.step, upload.best_step, self.resumed_from)
                return
            except Exception as error:  # each kind of store has errors of its own
                if attempt == ATTEMPTS:
                    self.say(f"checkpoint {upload.step} is not in {self.store.url}: {cause_of(error)}")
                else:
                    time.sleep(FIRST_WAIT_SECONDS * 2 ** (attempt - 1))

    def wait(self, seconds: float | None = None) -> bool:
        """Until all is up or given up; whether it is."""
        with self.changed:
            return self.changed.wait_for(lambda: not self.waiting and self.under_way is None, seconds)

    def stop(self) -> None:
        """Waits for the one under way; those that wait are left out."""
        with self.changed:
            for left_out in self.waiting:
                shutil.rmtree(left_out.folder, ignore_errors=True)
            self.waiting.clear()
        self.wait()


def link_files(checkpoint: Path) -> Path:
    """A folder beside the checkpoint, .upload-STEP, of the same files but the local mark: no byte is copied where links
    can be made."""
    target = checkpoint.with_name(f".upload-{checkpoint.name.removeprefix('checkpoint-')}")
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(checkpoint, target, ignore=shutil.ignore_patterns("complete"), copy_function=link_or_copy)
    return target


def link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
