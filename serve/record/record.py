"""The append-only record of one environment: whole, sealed lines on disk, from which serve/record/state.py folds what
is so. Nothing else is stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import ExternalError
from configs.slots import SlotName
from infra.boot import now
from infra.files.atomic import private_directory
from infra.files.sealed_log import append, first_seal
from infra.git.command import stamp
from serve.record.event import REQUESTS, Event, Kind
from serve.record.reader import read_back, read_events, reader_of
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
        moment = now()
        when = {"at": moment.iso, "boot": moment.boot, "uptime": round(moment.uptime, 3)}
        event = Event(**when, kind=kind, slot=slot, facts=facts, **provenance)
        try:
            private_directory(self.path.parent)
            # An operator's request and the agent's work are written by two processes.
            with FileLock(self.path.with_suffix(".lock")):
                self.check_token()
                seal = append(self.path, event.model_dump_json(exclude={"seal"}).encode())
                self.state()
                reader_of(self.path.absolute()).keep()
        except OSError as error:
            raise ExternalError(
                f"{self.path}: the record cannot be written: {error.strerror or error}",
                hint=f"df -h {self.path.parent}",
            ) from error
        return event.model_copy(update={"seal": seal})

    @property
    def owner(self) -> str:
        """Names this record for good, and whatever belongs to it: its first seal. Empty as long as there is none."""
        return first_seal(self.path)[:16]

    def provenance(self) -> dict[str, str]:
        """Who and from which commit; an agent says that it is one, for its user may be a person's as well."""
        found, holder = stamp(), self.state().holder
        is_agent = holder and holder.get("command") in ("agent", "supervisor") and holder["token"] == self.token
        return found | {"by": f"agent {found['by']}"} if is_agent else found

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
        """Every whole line; a line torn by a kill was never acted on. Raises ExternalError where one is not what was
        written."""
        return list(read_events(self.path))

    def back(self) -> Iterator[Event]:
        """The newest first, read as far as the caller goes."""
        return read_back(self.path)

    def state(self) -> State:
        """Raises ExternalError where a line is not what was written, or of a newer version."""
        return reader_of(self.path.absolute()).now()
