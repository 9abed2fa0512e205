"""Which releases the environments here pin, run, or would go back to: read from their YAML and their records, without a
lock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from configs.environment.state import known_homes
from configs.read import read_environment
from configs.release import ReleaseUse
from configs.slots import SLOTS
from infra.state.folder import state_folder
from infra.state.places import RECORD
from serve.record.event import Event
from serve.record.fold import fold
from serve.record.record import Record
from serve.record.state import State


def releases_in_use() -> list[ReleaseUse]:
    """Raises InputError where an environment's YAML cannot be read: what it pins is then not known."""
    return [use for name, pinned, path in environments() for use in uses_in(name, pinned, Record(path).read())]


def environments() -> list[tuple[str, str | None, Path]]:
    """Name, pinned release, record. A record under build/ or in a home whose YAML is elsewhere, or gone, counts by its
    folder: its servers may still run."""
    configs = [read_environment(str(path)) for path in sorted(Path("configs/deploy").glob("*.yaml"))]
    named: list[tuple[str, str | None, Path]] = [
        (config.name, config.release, state_folder(config) / RECORD) for config in configs
    ]
    known = {path.resolve() for _, _, path in named}
    return named + [
        (path.parent.as_posix(), None, path)
        for path in [*sorted(Path("build").rglob(RECORD)), *(home / RECORD for home in known_homes())]
        if path.exists() and path.resolve() not in known
    ]


def uses_in(name: str, pinned: str | None, events: list[Event]) -> list[ReleaseUse]:
    """Pure: one for each way in which a release is needed, and one for each that is not any more."""
    state = fold(events)
    needed = [*([(pinned, "pinned")] if pinned else []), *needs(state)]
    gone = {str(event.facts["release"]) for event in events if event.kind == "starting" and event.slot} - {
        reference for reference, _ in needed
    }
    switched = state.last_switched
    return [ReleaseUse(name, reference, how, True, switched.get(reference)) for reference, how in needed] + [
        ReleaseUse(name, reference, "not any more", False, switched.get(reference)) for reference in sorted(gone)
    ]


def needs(state: State) -> Iterator[tuple[str, str]]:
    for slot in SLOTS:
        if reference := state.release_of(slot):
            yield reference, f"serves ({slot})" if slot == state.active else f"in slot {slot}"
    for reference, how in (
        (state.wanted.desired, "desired"),
        (state.wanted.pinned, "requested"),
        (state.last_good, "rollback target"),
    ):
        if reference:
            yield reference, how
