"""The append-only record of one environment: whole, sealed lines on disk, from which serve/record/state.py folds what
is so. Nothing else is stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from configs.errors import ExternalError
from configs.slots import SlotName
from infra.files.sealed_log import append, whole_lines
from infra.git.command import stamp
from serve.record.event import REQUESTS, Event, Kind
from serve.record.fold import fold
from serve.record.state import State


@dataclass(frozen=True)
class Record:
    """events.jsonl of one environment. With a `token` it is its holder's: a later holder's token makes every append
    refuse. `why` is a person's reason; what the program has to say itself comes before it."""

    path: Path
    token: int | None = None
    why: str | None = None

    def append(self, kind: Kind, slot: SlotName | None = None, **facts: Any) -> Event:
        """On disk (fsync) before it returns: what follows an event may rely on it. Raises ExternalError where the disk
        or a later holder says no."""
        from filelock import FileLock

        provenance = self.provenance() if kind in REQUESTS else {}
        facts = {"why": self.why} | facts if self.why and provenance else facts
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        event = Event(at=at, kind=kind, slot=slot, facts=facts, **provenance)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # An operator's request and the agent's work are written by two processes.
            with FileLock(self.path.with_suffix(".lock")):
                self.check_token()
                seal = append(self.path, event.model_dump_json(exclude={"seal"}).encode())
        except OSError as error:
            raise ExternalError(
                f"{self.path}: the record cannot be written: {error.strerror or error}",
                hint=f"df -h {self.path.parent}",
            ) from error
        return event.model_copy(update={"seal": seal})

    def provenance(self) -> dict[str, str]:
        """Who and from which commit; an agent says that it is one, for its user may be a person's as well."""
        found, acquired = stamp(), [event.facts for event in self.read() if event.kind == "acquired"]
        held = [facts for facts in acquired if facts["token"] == self.token]
        return found | {"by": f"agent {found['by']}"} if held and held[-1].get("command") == "agent" else found

    def check_token(self) -> None:
        """Raises ExternalError where another command has taken the environment over since."""
        if self.token is None:
            return
        latest = self.state().token
        if latest != self.token:
            raise ExternalError(
                f"{self.path}: holder {latest} has taken over from holder {self.token}, whose work ends here",
                hint=f"tail {self.path}",
            )

    def read(self) -> list[Event]:
        """Every whole line; a line torn by a kill was never acted on."""
        from pydantic import ValidationError

        if not self.path.exists():
            return []
        events = []
        for line in whole_lines(self.path.read_bytes()):
            try:
                events.append(Event.model_validate(line))
            except ValidationError:
                continue
        return events

    def state(self) -> State:
        return fold(self.read())
