"""What is another than it was of the champion: configuration, data, versions, and the gate's rules. Pure but for
`read_side`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from configs.data_card import RowsSummary, read_released
from configs.errors import InputError
from configs.release import Manifest, read_manifest
from configs.verdict import Verdict

NONE = "(none)"
MOST_COUNTS = 4


class Side(NamedTuple):
    """What a release says of itself, and the verdict on it; None: it is not here."""

    manifest: Manifest | None
    rows: RowsSummary | None
    verdict: Verdict | None


class Difference(NamedTuple):
    """`part`: gate, config, data or versions."""

    part: str
    what: str
    before: str
    now: str


def read_side(release: Path, verdict: Path | None) -> Side:
    """Of a release's directory, and the verdict on it."""
    try:
        manifest = read_manifest(release)
    except InputError:
        return Side(None, None, None)
    try:
        rows = read_released(release)["summary"]
    except InputError:
        rows = None
    return Side(manifest, rows, read_verdict(verdict))


def read_verdict(path: Path | None) -> Verdict | None:
    try:
        return Verdict.read(path) if path else None
    except (OSError, ValueError):
        return None


def differences(now: Side, before: Side) -> list[Difference]:
    """What a reviewer asks for first stands first; nothing where either is not here."""
    if now.manifest is None or before.manifest is None:
        return []
    mine, theirs = now.manifest, before.manifest
    return [
        *gate_differences(now.verdict, before.verdict),
        *part_of("config", {"base weights": theirs.base, **theirs.config}, {"base weights": mine.base, **mine.config}),
        *data_differences(now, before),
        *part_of("versions", theirs.versions, mine.versions),
    ]


def gate_differences(now: Verdict | None, before: Verdict | None) -> Iterator[Difference]:
    """Rules by their names, which hold their bounds."""
    if now is None or before is None:
        return
    mine, theirs = ([one.rule for one in verdict.results] for verdict in (now, before))
    yield from (Difference("gate", "rule", NONE, rule) for rule in mine if rule not in theirs)
    yield from (Difference("gate", "rule", rule, NONE) for rule in theirs if rule not in mine)


def gate_words(now: Verdict, before: Verdict | None) -> str:
    """Whether the rules are those that the champion passed."""
    if now.champion is None:
        return ""
    if before is None:
        return "the champion's verdict is not here to be compared with"
    bound = now.binding is not None and before.binding is not None
    if now.binding and before.binding and now.binding.gate_digest == before.binding.gate_digest:
        return "unchanged since the champion's verdict"
    mine, theirs = ({one.rule for one in verdict.results} for verdict in (now, before))
    if mine == theirs and bound:
        return "the same rules by name, with other settings than the champion's"
    if mine == theirs:
        return "the rules that the champion was judged by"
    counts = [(len(mine - theirs), "new"), (len(theirs - mine), "gone")]
    told = [f"{number} rule{'' if number == 1 else 's'} {word}" for number, word in counts if number]
    return f"changed since the champion's verdict: {', '.join(told)}"


def part_of(part: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Difference]:
    theirs, mine = dict(flat(before)), dict(flat(now))
    for what in [*theirs, *(name for name in mine if name not in theirs)]:
        old, new = theirs.get(what, NONE), mine.get(what, NONE)
        if old != new and what != "name":
            yield Difference(part, what, old, new)


def flat(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys, as in the YAML; lists and numbers as they read."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{above}{key}.")
        elif value not in (None, "", [], {}):
            yield f"{above}{key}", str(value)


def data_differences(now: Side, before: Side) -> Iterator[Difference]:
    """The test rows by their fingerprint, the train rows by label and source; of more than MOST_COUNTS labels the
    smallest and the largest count."""
    tests = [
        str((side.manifest.data if side.manifest else {}).get("test_fingerprint") or NONE) for side in (before, now)
    ]
    if tests[0] != tests[1]:
        yield Difference("data", "test rows", *(short_digest(one) for one in tests))
    if now.rows is None or before.rows is None:
        return
    if now.rows["rows"] != before.rows["rows"]:
        yield Difference("data", "train rows", f"{before.rows['rows']:,}", f"{now.rows['rows']:,}")
    for what, old, new in (
        ("label", before.rows.get("labels") or {}, now.rows.get("labels") or {}),
        ("source", before.rows.get("sources") or {}, now.rows.get("sources") or {}),
    ):
        moved = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        if len(moved) > MOST_COUNTS:
            ends = [[counts[name] for name in moved if name in counts] for counts in (old, new)]
            yield Difference("data", f"train rows of {len(moved)} {what}s", *map(range_words, ends))
        else:
            yield from (
                Difference("data", f"train rows, {what} {name}", *(str(one.get(name, NONE)) for one in (old, new)))
                for name in moved
            )


def range_words(counts: list[int]) -> str:
    if not counts:
        return NONE
    least, most = min(counts), max(counts)
    return f"{least:,} each" if least == most else f"{least:,} to {most:,} each"


def short_digest(text: str) -> str:
    return text[:19]
