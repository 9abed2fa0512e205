"""The figures of an environment: each says what is so, and none says what nobody knows."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric

from configs.environment.config import DeployConfig
from infra.boot import Moment
from serve.exporter.figures import Seen, Turn, figures_of
from serve.plan.action import Action, End
from serve.plan.situation import Observed, Situation
from serve.record.event import PROOF, Event
from serve.record.fold import apply
from serve.record.state import State
from tests.support.certificates import write_certificate

pytestmark = pytest.mark.unit
OLD, NEW = "calls@sha256:" + "1" * 64, "calls@sha256:" + "2" * 64


def folded(*events: tuple[str, str | None, dict[str, Any]]) -> State:
    state = State()
    for kind, slot, facts in events:
        state = apply(state, Event.model_validate({"at": "2026-11-28", "kind": kind, "slot": slot, "facts": facts}))
    return state


def acquired(command: str = "agent", **facts: Any) -> tuple[str, None, dict[str, Any]]:
    return "acquired", None, {"token": 1, "pid": 1, "host": "here", "command": command, **facts}


def serving(release: str) -> list[tuple[str, str | None, dict[str, Any]]]:
    started = {"pid": 1, "boot": "b", "ticks": 1, "port": 1, "log": "x"}
    shown: list[tuple[str, str | None, dict[str, Any]]] = [("proven", "blue", {"proof": proof}) for proof in PROOF]
    return [
        ("desired", None, {"release": release}),
        ("starting", "blue", {"release": release}),
        ("started", "blue", started),
        *shown,
        ("switched", "blue", {"release": release}),
    ]


def figures(
    state: State, step: Action | End | None = None, turn: Turn | None = None, died: Any = frozenset(), **facts: Any
) -> dict[str, list[tuple[dict[str, str], float]]]:
    settings = {"name": "shop", "model": "m", "gate": None, "state_dir": "state"}
    config = DeployConfig.model_validate(settings | facts)
    seen = Observed(True, {}, frozenset(), now=Moment(0.0), died=died)
    return by_name(figures_of(Seen(Situation(state, config, seen), step or End("done"), 0.0, 0.0), turn))


def by_name(found: Iterable[Metric]) -> dict[str, list[tuple[dict[str, str], float]]]:
    return {
        family.name: [(sample.labels, sample.value) for sample in family.samples] for family in found if family.samples
    }


def value(found: dict[str, list[tuple[dict[str, str], float]]], name: str) -> float:
    ((_, number),) = found[f"tunegate_{name}"]
    return number


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("event", "seen"),
    [
        (None, (0, 0, 0)),
        (("paged", "blue", {"why": "x"}), (1, 0, 0)),
        (("paused", None, {}), (0, 1, 0)),
        (("held", None, {"release": OLD}), (0, 0, 1)),
    ],
)
def test_who_waits_for_whom_is_a_figure_of_its_own(event: Any, seen: tuple[int, int, int]) -> None:
    found = figures(folded(acquired(), *serving(OLD), *([event] if event else [])))
    assert (value(found, "paged"), value(found, "paused"), value(found, "held")) == seen


def test_which_release_serves_in_which_slot_and_how_many_of_its_servers_live() -> None:
    starting = ("starting", "green", {"release": NEW, "servers": 2})
    found = figures(folded(acquired(), *serving(OLD), starting), died={("blue", 0)})
    assert [labels for labels, _ in found["tunegate_slot_info"]] == [
        {"slot": "blue", "release": "calls@" + "1" * 12, "digest": "sha256:" + "1" * 64, "active": "yes"},
        {"slot": "green", "release": "calls@" + "2" * 12, "digest": "sha256:" + "2" * 64, "active": "no"},
    ]
    assert [number for _, number in found["tunegate_slot_servers_wanted"]] == [1, 2]
    assert [number for _, number in found["tunegate_slot_servers_alive"]] == [0, 0]
    assert [number for _, number in figures(folded(*serving(OLD)))["tunegate_slot_servers_alive"]] == [1]


def test_the_step_in_hand_and_who_holds_are_labels() -> None:
    ((labels, _),) = figures(folded(acquired()), Action("prove", "green", proof="load"))["tunegate_step_seconds"]
    assert labels == {"step": "prove", "slot": "green", "proof": "load"}
    ((labels, _),) = figures(folded(acquired("supervisor")), End("paged", "blue"))["tunegate_step_seconds"]
    assert labels == {"step": "paged", "slot": "blue", "proof": ""}
    ((labels, _),) = figures(folded(acquired("supervisor")))["tunegate_holder_info"]
    assert labels == {"holder": "supervisor"}


def test_drift_is_a_figure_where_something_is_pinned_and_only_an_agent_stands_at_a_branch() -> None:
    pulled = ("pulled", None, {"upstream": "origin/main", "commit": "a" * 40, "author": "Ada", "why": "not signed"})
    turn = Turn(0.2, 3, behind=4)
    state = folded(acquired(follows="origin/main"), *serving(OLD), pulled)
    assert value(figures(state, release=OLD), "drift") == 0
    found = figures(state, turn=turn, release=NEW)
    assert (value(found, "drift"), value(found, "git_stays"), value(found, "git_commits_behind")) == (1, 1, 4)
    assert (value(found, "turn_seconds"), value(found, "turn_errors")) == (0.2, 3)
    assert found["tunegate_git_info"] == [({"branch": "origin/main", "commit": "a" * 12}, 1.0)]
    beside = figures(folded(acquired(follows="origin/main"), pulled, acquired("supervisor")), turn=turn)
    assert not [name for name in beside if "git" in name or "drift" in name]


def test_the_disk_and_the_certificate_that_the_router_really_shows(tmp_path: Path) -> None:
    tls: dict[str, Any] = {"router": {"tls": {"certificate": "new.crt", "key": "new.key", "local_port": 8443}}}
    assert not [name for name in figures(folded(), **tls) if "state" in name or "certificate" in name]
    Path("state/router").mkdir(parents=True)
    chain = [write_certificate(name, name, days=days) for name, days in (("leaf", 20), ("authority", 10))]
    Path("state/router/router.pem").write_text("".join(pem for one in chain for pem in one))
    found = figures(folded(), **tls)
    assert 9.9 < value(found, "certificate_seconds") / datetime.timedelta(days=1).total_seconds() < 10.1
    assert 0 < value(found, "state_free_bytes") <= value(found, "state_size_bytes")
    assert "tunegate_certificate_seconds" not in figures(folded())
