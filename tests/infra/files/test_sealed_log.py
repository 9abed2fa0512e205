"""Seals: whatever is done to a sealed file but cutting its end off is found; and that by a seal noted elsewhere."""

from __future__ import annotations

import getpass
import json
import os
import resource
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.files import sealed_log
from infra.files.sealed_log import Chain, append, check, sealed
from infra.git import command
from infra.git.command import stamp
from infra.haproxy.api_keys import note

pytestmark = pytest.mark.unit
BODIES = st.lists(
    st.dictionaries(st.sampled_from(["at", "kind", "seal", "facts"]), st.text(max_size=8) | st.integers(), min_size=1),
    min_size=2,
    max_size=6,
)


def added(content: bytes, body: dict[str, object], ascii_only: bool = True) -> bytes:
    return content + sealed(content, json.dumps(body, separators=(",", ":"), ensure_ascii=ascii_only).encode())[0]


def written(bodies: list[dict[str, object]], ascii_only: bool = True) -> bytes:
    content = b""
    for body in bodies:
        content = added(content, body, ascii_only)
    return content


def lines_of(content: bytes) -> list[bytes]:
    """With their ends."""
    return [line + b"\n" for line in content.split(b"\n")[:-1]]


def whole_lines(content: bytes) -> list[dict[str, Any]]:
    """As whoever follows the seals reads them."""
    chain, lines = Chain(), []
    for line in lines_of(content):
        value, chain = chain.follow(line)
        lines += [value] if value is not None else []
    return lines


def holds(content: bytes) -> bool:
    found = check(content)
    return found.broken is None and not found.torn and bool(found.seals)


@given(bodies=BODIES, ascii_only=st.booleans())
def test_what_was_written_follows_and_reads_back(bodies: list[dict[str, object]], ascii_only: bool) -> None:
    content = written(bodies, ascii_only)
    found, lines = check(content), whole_lines(content)
    assert holds(content) and len(set(found.seals)) == len(bodies)
    assert [line["seal"] for line in lines] == list(found.seals)
    assert [{name: value for name, value in line.items() if name != "seal"} for line in lines] == [
        {name: value for name, value in body.items() if name != "seal"} for body in bodies
    ]


@given(bodies=BODIES, data=st.data())
def test_any_byte_that_is_changed_put_in_or_taken_out_is_found(
    bodies: list[dict[str, object]], data: st.DataObject
) -> None:
    """But for the very last end of line, which says nothing."""
    content = written(bodies)
    start = data.draw(st.integers(0, len(content) - 2))
    end = data.draw(st.integers(start, min(start + 3, len(content) - 1)))
    new = data.draw(st.binary(max_size=3).filter(lambda new: new != content[start:end]))
    assert not holds(content[:start] + new + content[end:])


@given(bodies=BODIES, data=st.data())
def test_a_line_that_is_removed_moved_or_said_twice_is_found(
    bodies: list[dict[str, object]], data: st.DataObject
) -> None:
    lines = lines_of(written(bodies))
    first, second = sorted(data.draw(st.lists(st.integers(0, len(lines) - 1), min_size=2, max_size=2, unique=True)))
    swapped = list(lines)
    swapped[first], swapped[second] = lines[second], lines[first]
    assert not holds(b"".join(swapped))
    assert not holds(b"".join(lines[:first] + lines[first + 1 :])), "only the end can be cut off unseen"
    assert not holds(b"".join([*lines[: second + 1], lines[first], *lines[second + 1 :]]))


@given(bodies=BODIES, data=st.data())
def test_an_edit_with_a_seal_that_fits_breaks_the_next_line(
    bodies: list[dict[str, object]], data: st.DataObject
) -> None:
    lines = lines_of(written(bodies))
    edited = data.draw(st.integers(0, len(lines) - 2))
    forged = added(b"".join(lines[:edited]), {"kind": "forged"})
    assert check(forged + b"".join(lines[edited + 1 :])).broken == (
        f"line {edited + 2} does not follow from what stands before it: something was edited, removed or moved there"
    )


@given(bodies=BODIES, data=st.data())
def test_an_end_that_was_cut_off_shows_in_the_seals_alone(bodies: list[dict[str, object]], data: st.DataObject) -> None:
    lines = lines_of(written(bodies))
    kept = data.draw(st.integers(1, len(lines) - 1))
    whole, cut = check(b"".join(lines)), check(b"".join(lines[:kept]))
    assert cut.broken is None and cut.seals == whole.seals[:kept] and whole.seals[-1] not in cut.seals


@given(bodies=BODIES, cuts=st.lists(st.integers(1, 40), min_size=1, max_size=2))
def test_a_line_torn_by_a_kill_is_told_apart_and_then_covered(bodies: list[dict[str, object]], cuts: list[int]) -> None:
    content = written(bodies)
    for cut in cuts:
        content += lines_of(content)[0][: min(cut, len(lines_of(content)[0]) - 2)]
        found = check(content)
        assert found.torn and found.broken is None and len(found.seals) == len(bodies), "no accusation"
    after = added(content, {"kind": "next"})
    assert holds(after) and len(check(after).seals) == len(bodies) + 1
    place = content.rindex(b"\n") + 1
    assert not holds(after[:place] + after[len(content) + 1 :]), "not even what was torn can be removed"


def test_a_line_without_a_seal_is_found_and_never_taken_in() -> None:
    content = written([{"kind": "one"}]) + b'{"kind":"forged"}\n'
    for _ in range(2):
        assert check(content).broken == "line 2 bears no seal: it was edited or written by another program"
        content = added(content, {"kind": "after"})


def test_lines_from_before_there_were_seals_are_counted_and_from_then_on_covered() -> None:
    content = b'{"kind":"old"}\n{"kind":"older"}\n'
    assert check(content) == sealed_log.ChainCheck(earlier=2)
    content = added(content, {"kind": "new"})
    assert (check(content).earlier, holds(content)) == (2, True)
    assert check(content.replace(b"older", b"OLDER")).broken


def test_an_empty_file_says_nothing_and_is_nothing() -> None:
    assert check(b"") == sealed_log.ChainCheck() and whole_lines(b"\x00\x00\n[1]\n7\n{}\n") == [{}]


@pytest.mark.parametrize("name", ["write", "fsync"])
def test_what_the_disk_did_not_take_was_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = tmp_path / "events.jsonl"
    append(path, b'{"kind":"one"}')
    before = path.read_bytes()
    if name == "fsync":
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            append(path, b'{"kind":"two"}')
        monkeypatch.undo()
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, resource.RLIM_INFINITY))
        try:
            with pytest.raises(OSError, match=r"No space left|too large"):
                append(path, b'{"kind":"two"}')
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert path.read_bytes() == before
    append(path, b'{"kind":"three"}')
    assert [line["kind"] for line in whole_lines(path.read_bytes())] == ["one", "three"]


def full(descriptor: int) -> None:
    raise OSError(28, "No space left on device")


def test_a_reason_may_hold_what_elsewhere_ends_a_line() -> None:
    content = written([{"why": "a\u2028b\x85c\r\nd"}, {"kind": "next"}], ascii_only=False)
    assert holds(content) and [line.get("why") for line in whole_lines(content)] == ["a\u2028b\x85c\r\nd", None]


def test_what_is_appended_is_on_disk_with_its_seal(tmp_path: Path) -> None:
    seals = [append(tmp_path / "events.jsonl", body) for body in (b'{"kind":"one"}', b'{"kind":"two"}')]
    assert list(check((tmp_path / "events.jsonl").read_bytes()).seals) == seals


def test_a_note_says_who_when_and_from_which_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "head_revision", lambda: "c0ffee")
    note(tmp_path / "state" / "events.jsonl", "keyed", name="team", why="they left")
    (line,) = whole_lines((tmp_path / "state" / "events.jsonl").read_bytes())
    assert (line["kind"], line["commit"], line["facts"]) == ("keyed", "c0ffee", {"name": "team", "why": "they left"})
    assert line["by"].startswith(f"{getpass.getuser()}@") and line["at"].endswith("+00:00")


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 10001")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert stamp()["by"].startswith(f"uid{os.getuid()}@")


@given(bodies=BODIES, tail=st.integers(1, 400), torn=st.binary(max_size=5).filter(lambda torn: b"\n" not in torn))
def test_reading_only_the_files_end_gives_the_same_seals(
    tmp_path_factory: pytest.TempPathFactory, bodies: list[dict[str, object]], tail: int, torn: bytes
) -> None:
    """Also where that end begins in the middle of a line, and where the last append was killed."""
    path, whole = tmp_path_factory.mktemp("record") / "events.jsonl", b""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealed_log, "TAIL_BYTES", tail)
        for number, body in enumerate(bodies):
            if number == len(bodies) - 1:
                whole += torn
                path.write_bytes(whole)
            append(path, json.dumps(body, separators=(",", ":")).encode())
            whole = added(whole, body)
            assert path.read_bytes() == whole
