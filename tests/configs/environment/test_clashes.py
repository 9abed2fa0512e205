"""Environments of one machine that would take each other's ports, folders or names are told so, before one starts."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.check import check_files
from configs.environment.clashes import clashes
from configs.environment.config import DeployConfig
from configs.read import read_environment
from tests.paths import ROOT

pytestmark = pytest.mark.unit
ONE: dict[str, Any] = {
    "name": "one",
    "model": "m",
    "gate": None,
    "router": {"port": 8001, "metrics_port": 8002},
    "slot_ports": [8003, 8004],
    "state_dir": "state/one",
}
TWO: dict[str, Any] = {
    "name": "two",
    "model": "m",
    "gate": None,
    "router": {"port": 9001, "tls": {"certificate": "c", "key": "k", "local_port": 9002}},
    "slot_ports": [9003, 9004],
    "state_dir": "state/two",
}


def made(facts: dict[str, Any], **changes: Any) -> DeployConfig:
    return DeployConfig.model_validate(facts | changes)


@pytest.mark.parametrize(
    ("changes", "seen"),
    [
        ({}, []),
        ({"router": {"port": 9001}}, ["router.port 9001 router.port"]),
        ({"router": {"port": 9002}}, ["router.port 9002 router.tls.local_port"]),
        ({"router": {"port": 8001, "metrics_port": 9003}}, ["router.metrics_port 9003 slot_ports.0"]),
        ({"supervision": {"metrics_port": 9004}}, ["supervision.metrics_port 9004 slot_ports.1"]),
        ({"slot_ports": [9004, 9003]}, ["slot_ports.0 9004 slot_ports.1", "slot_ports.1 9003 slot_ports.0"]),
        ({"state_dir": "state/two"}, ["state_dir two state_dir"]),
        ({"state_dir": "state/two/inside"}, ["state_dir inside state_dir"]),
        ({"state_dir": "./state/two"}, ["state_dir two state_dir"]),
        ({"state_dir": "state/twofold"}, []),
        ({"name": "two"}, ["model m model", "name two name"]),
    ],
)
def test_each_port_folder_and_name_is_one_environments(changes: dict[str, Any], seen: list[str]) -> None:
    found = clashes(made(ONE, **changes), [made(TWO)])
    assert [f"{'.'.join(map(str, one.claim.key))} {Path(one.claim.value).name} {one.theirs}" for one in found] == seen


def test_one_environment_takes_no_port_twice() -> None:
    found = clashes(made(ONE, slot_ports=[8001, 8001]), [])
    assert [(one.claim.key, one.theirs) for one in found] == [
        (("slot_ports", 0), "router.port"),
        (("slot_ports", 1), "router.port"),
        (("slot_ports", 1), "slot_ports.0"),
    ]
    (same,) = clashes(made(ONE, supervision={"metrics_port": 8002}), [])
    assert (same.claim.key, same.theirs) == (("supervision", "metrics_port"), "router.metrics_port")


@given(st.lists(st.integers(1, 9), min_size=6, max_size=6))
def test_a_clash_is_seen_from_both_sides(ports: list[int]) -> None:
    one = made(ONE, router={"port": ports[0]}, slot_ports=ports[1:3])
    two = made(TWO, router={"port": ports[3]}, slot_ports=ports[4:])
    here = {(claim.value, other) for claim, other, _ in clashes(one, [two]) if other == "two"}
    there = {(claim.value, other) for claim, other, _ in clashes(two, [one]) if other == "one"}
    assert (
        {value for value, _ in here}
        == {value for value, _ in there}
        == {str(p) for p in ports[:3]} & {str(p) for p in ports[3:]}
    )


def test_an_environment_behind_anothers_router_shares_its_ports_and_not_its_models_name() -> None:
    host = made(ONE)
    guest = {name: value for name, value in TWO.items() if name != "router"} | {"router_of": "one"}
    assert clashes(made(guest, model="other").behind(host), [host]) == []
    (clash,) = clashes(made(guest).behind(host), [host])
    assert (clash.claim.key, clash.other) == (("model",), "one")
    assert [
        one.claim.key for one in clashes(made(guest, model="other", slot_ports=[8001, 9]).behind(host), [host])
    ] == [("slot_ports", 0)]


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"router_of": "none"}, "expected an environment of this checkout: there is no configs/deploy/none.yaml"),
        ({"router_of": "two"}, "router_of another environment"),
        ({"router_of": "three"}, "expected an environment with a router of its own: that one is behind one's"),
        ({"router_of": "one", "router": {"port": 1}}, "router or router_of"),
    ],
)
def test_whose_router_it_is_must_be_one(
    facts: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("configs/deploy")
    folder.mkdir(parents=True)
    base = {"gate": None, "slot_ports": [9003, 9004]}
    (folder / "one.yaml").write_text(json.dumps(ONE))
    (folder / "three.yaml").write_text(
        json.dumps({"name": "three", "model": "c", "gate": None, "slot_ports": [9005, 9006], "router_of": "one"})
    )
    (folder / "two.yaml").write_text(json.dumps({"name": "two", "model": "b"} | base | facts))
    found = [str(problem) for problem in check_files([folder / "two.yaml"], [])]
    assert len(found) == 1 and words in found[0]
    assert check_files([folder / "one.yaml", folder / "three.yaml"], []) == []
    assert read_environment("three").router.port == 8001 and read_environment("three").host.name == "one"


def test_the_shipped_environments_leave_each_other_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    shipped = [read_environment(str(path)) for path in sorted(Path("configs/deploy").glob("*.yaml"))]
    assert len(shipped) > 3
    assert [clash for one, other in combinations(shipped, 2) for clash in clashes(one, [other])] == []


def test_check_names_the_line_and_the_other_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("configs/deploy")
    folder.mkdir(parents=True)
    text = "name: {}\nmodel: m\ngate: null\nrouter: {{port: {}}}\nslot_ports: [{}, {}]\nstate_dir: build/{}\n"
    (folder / "one.yaml").write_text(text.format("one", 8001, 8002, 8003, "one"))
    (folder / "two.yaml").write_text(text.format("two", 9001, 8002, 9003, "two"))
    (folder / "broken.yaml").write_text("name: [\n")
    (problem,) = check_files([folder / "one.yaml"], [])
    assert str(problem) == (
        "configs/deploy/one.yaml:5: slot_ports.0: found 8002, expected a port of its own: it is slot_ports.0 of two"
    )
