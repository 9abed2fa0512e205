"""The append-only record of one environment: whole lines on disk, from which serve/state.py folds what is so. Nothing else is stored."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from configs.errors import OutsideError
from infra.router import SlotName
from serve.state import PROOF, Event, Kind, SlotState, State, fold, other

__all__ = ["PROOF", "Event", "Kind", "Record", "SlotState", "State", "fold", "other"]


@dataclass(frozen=True)
class Record:
    """events.jsonl of one environment. With a `token` it is its holder's: a later holder's token makes every append refuse."""

    path: Path
    token: int | None = None

    def append(self, kind: Kind, slot: SlotName | None = None, **facts: Any) -> Event:
        """On disk (fsync) before it returns: what follows an event may rely on it. Raises OutsideError where the disk or a later holder says no."""
        from filelock import FileLock

        event = Event(at=datetime.now(UTC).isoformat(timespec="milliseconds"), kind=kind, slot=slot, facts=facts)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # An operator's wish and the agent's work are written by two processes.
            with FileLock(self.path.with_suffix(".lock")):
                self.check_token()
                torn = self.path.exists() and self.path.stat().st_size > 0 and not self.path.read_bytes().endswith(b"\n")
                with self.path.open("a", encoding="utf8") as stream:
                    stream.write(("\n" if torn else "") + event.model_dump_json() + "\n")
                    stream.flush()
                    os.fsync(stream.fileno())
        except OSError as error:
            raise OutsideError(f"{self.path}: the record cannot be written: {error.strerror or error}", hint=f"df -h {self.path.parent}") from error
        return event

    def check_token(self) -> None:
        """Raises OutsideError where another command has taken the environment over since."""
        if self.token is None:
            return
        latest = self.state().token
        if latest != self.token:
            raise OutsideError(f"{self.path}: holder {latest} has taken over from holder {self.token}, whose work ends here", hint=f"tail {self.path}")

    def read(self) -> list[Event]:
        """Every whole line; a line torn by a kill was never acted on."""
        if not self.path.exists():
            return []
        events = []
        for line in self.path.read_text(encoding="utf8").splitlines():
            try:
                events.append(Event.model_validate(json.loads(line)))
            except ValueError:
                continue
        return events

    def state(self) -> State:
        return fold(self.read())
