"""What a release is judged against: what serves, else what is pinned, else what was last; nothing only where nothing
ever served."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.verdict import NO_CHAMPION
from infra.git.pins import BASE
from serve.record.champion import read_judged
from serve.record.record import Record
from tests.infra.git.test_pins import ONE, TWO, commit, git

pytestmark = pytest.mark.unit
YAML = Path("configs/deploy/live.yaml")


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(BASE, raising=False)
    write(None)


def write(release: str | None) -> None:
    YAML.parent.mkdir(parents=True, exist_ok=True)
    YAML.write_text(f"name: live\nmodel: m\ngate: null\nrelease: {release or 'null'}\nstate_dir: state\n")


def serve(release: str) -> None:
    record = Record(Path("state/events.jsonl"))
    record.append("starting", "blue", release=release)
    record.append("switched", "blue", from_release=None, before={}, **{"from": None})


def champion() -> str | None:
    found = read_judged("live").release
    assert found != NO_CHAMPION
    return found


def test_an_environment_that_nobody_ever_pinned_or_served_has_none() -> None:
    assert champion() is None


def test_what_serves_by_the_record_wins_over_the_pin() -> None:
    write(TWO)
    assert champion() == TWO
    serve(ONE)
    assert champion() == ONE
    Record(Path("state/events.jsonl")).append("stopped", "blue", release=ONE, why="stop")
    assert champion() == ONE, "it served last"
    write(None)
    assert champion() == ONE


def test_a_pin_that_was_taken_away_is_still_what_served(monkeypatch: pytest.MonkeyPatch) -> None:
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Ada")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "ada@example.com")
    git("init", "-q")
    commit(ONE)
    commit(None)
    write(None)
    assert champion() == ONE
