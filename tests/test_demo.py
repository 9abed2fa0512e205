"""The demo keeps its promises or says which it did not, and changes no file but its own."""

from __future__ import annotations

import copy
import json
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import demo
from configs.environment.config import DeployConfig
from configs.errors import ExternalError
from configs.loader import load
from configs.verdict import RuleResult, Verdict

pytestmark = pytest.mark.unit
DIGEST = "sha256:" + "b" * 64
VERSION: Any = {"release": "calls-v2", "digest": DIGEST}
GOOD: dict[str, Any] = {
    "quality": {"base": 0.1, "v1": 0.4, "v2": 0.6, "v3": 0.0},
    "switch": {"streams_open_at_switch": 10, "streams_cut": 0, "requests_failed": 0},
    "served": {"release": DIGEST},
    "versions": {"v2": {"digest": DIGEST}},
}
# Where the summary breaks a promise, and what is said then.
BROKEN: dict[tuple[str, str], tuple[Any, str]] = {
    ("quality", "v2"): (0.4, "exact match did not rise"),
    ("switch", "streams_open_at_switch"): (7, "7 streams were open at the switch, expected 8 or more"),
    ("switch", "streams_cut"): (1, "1 streams cut, 0 requests failed"),
    ("switch", "requests_failed"): (2, "2 requests failed"),
    ("served", "release"): ("sha256:other", "sha256:other serves, expected v2"),
}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs/gates").mkdir(parents=True)
    for name in ("load", "calls"):
        (tmp_path / f"configs/gates/{name}.yaml").write_text("rules: []\n")
    return tmp_path


def test_a_summary_that_keeps_every_promise_is_good() -> None:
    demo.check(GOOD)


@given(st.sets(st.sampled_from(sorted(BROKEN)), min_size=1))
def test_every_promise_that_was_not_kept_is_named(places: set[tuple[str, str]]) -> None:
    summary = copy.deepcopy(GOOD)
    for section, key in places:
        summary[section][key] = BROKEN[section, key][0]
    with pytest.raises(ExternalError, match=r"summary\.json") as failure:
        demo.check(summary)
    said = {place for place, (_, text) in BROKEN.items() if text.partition(",")[0] in str(failure.value)}
    assert said == places or (places - said == {("switch", "streams_cut")} and ("switch", "requests_failed") in places)


@pytest.mark.parametrize("quality", [{"base": 0.4}, {"v1": 0.6}, {"v1": 0.05}])
def test_quality_that_stands_still_or_falls_is_no_rise(quality: dict[str, float]) -> None:
    with pytest.raises(ExternalError, match="did not rise"):
        demo.check(GOOD | {"quality": GOOD["quality"] | quality})


def test_a_port_that_is_taken_is_replaced_and_one_that_is_free_is_kept() -> None:
    with socket.socket() as holder, socket.socket() as other:
        for one in (holder, other):
            one.bind(("127.0.0.1", 0))
        holder.listen()
        taken, spare = holder.getsockname()[1], other.getsockname()[1]
        other.close()
        found = demo.free([taken, spare])
    assert found[0] not in (taken, 0) and found[1] == spare


def test_the_environment_that_is_written_is_a_valid_one_of_the_demos_own(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "free", lambda ports: [port + 1 for port in ports])
    assert demo.make_environment() == "http://127.0.0.1:8091"
    config = load(demo.ENVIRONMENT, DeployConfig)
    assert (config.name, config.release, config.router.port, config.slot_ports) == ("demo", None, 8091, (8172, 8173))
    assert (
        config.state_dir
        and Path(config.state_dir).is_relative_to(demo.FOLDER)
        and config.gate
        and config.promotion == "auto"
    )
    assert demo.ENVIRONMENT.read_text().startswith(f"# tunegate deploy {demo.ENVIRONMENT}\n")


def test_an_earlier_demo_is_stopped_before_its_folder_goes(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(demo, "free", lambda ports: ports)
    monkeypatch.setattr(demo, "tunegate", lambda *arguments: ran.append((*arguments, str(demo.ENVIRONMENT.exists()))))
    demo.make_environment()
    (demo.FOLDER / "summary.json").write_text("{}")
    demo.make_environment()
    assert ran == [("stop", str(demo.ENVIRONMENT), "True")] and [path.name for path in demo.FOLDER.iterdir()] == [
        "deploy.yaml"
    ]


def test_what_a_version_left_behind_is_read_from_its_files(checkout: Path) -> None:
    root = Path("build/calls-v2")
    results = [
        RuleResult(rule="one", outcome="pass", sentence="good"),
        RuleResult(rule="two", outcome="fail", sentence="too slow"),
    ]
    Verdict(release=f"calls-v2@{DIGEST}", outcome="fail", results=results).write(root / "gate/verdict.json")
    for file, content in (
        ("eval/metrics.json", {"metrics": {"exact_match": 0.5}, "size_bytes": 7, "more": 1}),
        ("trained/training.json", {"steps": 2, "seconds": 3.0, "tokens_per_second": 4.0, "more": 1}),
    ):
        (root / file).parent.mkdir(parents=True)
        (root / file).write_text(json.dumps(content))
    assert demo.release_of("v2") == {
        "release": "calls-v2", "digest": DIGEST, "verdict": "fail", "reasons": ["too slow"],
        "headline": "Fail: two: too slow.",
        "metrics": {"exact_match": 0.5},
        "size_bytes": 7,
        "train": {"steps": 2, "seconds": 3.0, "tokens_per_second": 4.0},
    }  # fmt: skip


COMMAND = """
import json, sys
print("prove green: parity", file=sys.stderr)
print(json.dumps({"receipt": {"streams_cut": 0, "arguments": sys.argv[1:]}}))
"""


def test_a_deployment_says_what_it_does_and_gives_its_receipt(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "TUNEGATE", [sys.executable, "-c", COMMAND])
    receipt = demo.deploy(VERSION)
    assert receipt == {"streams_cut": 0, "arguments": ["deploy", str(demo.ENVIRONMENT), f"calls-v2@{DIGEST}", "--json"]}
    assert "prove green: parity" in "".join(capsys.readouterr())


def test_a_command_that_ends_otherwise_than_expected_ends_the_demo(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "TUNEGATE", [sys.executable, "-c", "raise SystemExit(1)"])
    assert demo.tunegate("run", expected=(1, 2)) == 1
    with pytest.raises(ExternalError, match=r"tunegate stop ended with 1, expected \(0,\)"):
        demo.tunegate("stop")
    with pytest.raises(ExternalError, match="the deployment ended with 1"):
        demo.deploy(VERSION)
