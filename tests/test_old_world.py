"""What tunegate 0.1 (f94eda2) wrote is read by this one: tests/support/old_world is a checkout as that left it, with
three environments that lived, and under `said` what it answered itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from configs.check import kind_of
from configs.data_card import read_data_card
from configs.loader import load
from configs.metrics import read_metrics
from configs.paths import RunPaths
from configs.release import read_manifest
from configs.training_record import read_training_record
from configs.verdict import Verdict
from infra.dvc.judgements import verdict_path
from infra.state.start_time import LEAST_SECONDS
from serve.record.record import Record
from tests.paths import ROOT

pytestmark = pytest.mark.unit
OLD = Path(__file__).parent / "support/old_world"
ENVIRONMENTS = ("old", "old-shadow", "old-gpt")
# What a person writes where the message says that a key has another name.
NEW_KEYS = {
    r"^door:": "router:",
    r"\bstrikes:": "max_crashes:",
    r"\bdamage:": "corrupt:",
    r"\bencoding_damage:": "mojibake:",
    # two faults that had one name; in a mapping of lines, and of one line
    r"^( +)nothing_to_learn: (\w+)": r"\1no_target_tokens: \2\n\1identical_pair: \2",
    r"\bnothing_to_learn: (\w+)": r"no_target_tokens: \1, identical_pair: \1",
    r"\bformat: (jsonl|csv|parquet|arrow)\b": r"file_format: \1",
}
OLD_KEYS = {
    "door": "router",
    "strikes": "max_crashes",
    "damage": "corrupt",
    "encoding_damage": "mojibake",
    "nothing_to_learn": "no_target_tokens",
    "format": "file_format",
}


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy, with the keys of its YAML renamed as the messages ask for."""
    shutil.copytree(OLD, tmp_path, dirs_exist_ok=True)
    for path in tmp_path.rglob("*.yaml"):
        rename_keys(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rename_keys(path: Path) -> None:
    text = path.read_text(encoding="utf8")
    for was, becomes in NEW_KEYS.items():
        text = re.sub(was, becomes, text, flags=re.MULTILINE)
    path.write_text(text, encoding="utf8")


def tunegate(*arguments: str, code: int = 0) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    words = [sys.executable, str(ROOT / "tunegate.py"), *arguments]
    found = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert found.returncode == code, found.stderr
    return found.stdout if code == 0 else found.stderr


def said(name: str) -> Any:
    return json.loads((OLD / "said" / name).read_text(encoding="utf8"))


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_environment_has_the_status_that_it_had(old: Path, name: str) -> None:
    """But for words: the router is called so, and what it is doing `running`; an action has another name. A slot had
    one server, which ended long ago."""
    before, now = said(f"{name}.status.json"), json.loads(tunegate("status", name, "--json"))
    assert now.pop("router") == {"url": before["door"]["url"], "running": False, "sends_to": None}
    assert (before.pop("door")["open"], before.pop("next"), now.pop("next")) == (False, "open_door", "start_router")
    assert now.pop("state_dir") == f"build/deploy/{name}"
    del before["holder"], now["holder"]  # a living process may have that number here
    counts = {slot: one.pop("servers") for slot, one in now["slots"].items()}
    assert counts == {
        slot: {"wanted": 1, "alive": 0} if one["release"] else None for slot, one in before["slots"].items()
    }
    assert now == before


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_line_of_its_record_is_whole_and_sealed(old: Path, name: str) -> None:
    before, now = said(f"{name}.audit-verify.json"), json.loads(tunegate("audit", "verify", name, "--json"))
    assert now == before
    path = Path(f"build/deploy/{name}/events.jsonl")
    assert len(Record(path).read()) == len(path.read_text(encoding="utf8").splitlines())


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_its_state_comes_home_with_the_first_command_that_changes_it(
    old: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Once the YAML no longer says where it lay; who only looks reads it there and moves nothing."""
    monkeypatch.setenv("TUNEGATE_STATE_HOME", str(old / "home"))
    path, there, home = old / f"configs/deploy/{name}.yaml", old / f"build/deploy/{name}", old / f"home/{name}"
    path.write_text(re.sub(r"(?m)^state_dir: .*\n", "", path.read_text(encoding="utf8")), encoding="utf8")
    before = (there / "events.jsonl").read_bytes()
    looked = json.loads(tunegate("status", name, "--json"))
    assert looked["state_dir"] == str(there) and not home.exists()
    tunegate("stop", name)
    assert not there.exists() and (home / "events.jsonl").read_bytes().startswith(before)
    now = json.loads(tunegate("audit", "verify", name, "--json"))
    was = said(f"{name}.audit-verify.json")
    assert now["sealed_lines"] > was["sealed_lines"] and now["lines_before_seals"] == was["lines_before_seals"]
    assert json.loads(tunegate("status", name, "--json"))["state_dir"] == str(home)
    if name != "old-gpt":  # which had no deploy with a receipt
        assert json.loads(tunegate("receipt", name, "--list", "--json")) == said(f"{name}.receipts.json")


@pytest.mark.parametrize("name", ENVIRONMENTS[:2])
def test_its_receipts_are_shown(old: Path, name: str) -> None:
    assert json.loads(tunegate("receipt", name, "--json")) == said(f"{name}.receipt.json")
    assert json.loads(tunegate("receipt", name, "--list", "--json")) == said(f"{name}.receipts.json")


def test_its_history_and_its_keys_are_shown(old: Path) -> None:
    assert json.loads(tunegate("audit", "list", "old", "--json")) == said("old.audit-list.json")
    assert json.loads(tunegate("keys", "list", "old", "--json")) == said("old.keys.json")


def test_published_releases_are_listed(old: Path) -> None:
    before = json.loads(json.dumps(said("releases-list.json")).replace("wished for", "requested"))
    now = json.loads(tunegate("releases", "list", "--json"))
    assert [one.pop("judged_for") for one in now] == [[]] * len(before) and now == before
    for environment in (None, "production"):
        path = verdict_path(Path("releases/smoke@7618c9b29fdc"), environment)
        assert Verdict.read(path).binding is None, "the only one, which says that it was bound to nothing"


@pytest.mark.parametrize("path", sorted(OLD.rglob("verdict.json")), ids=lambda path: path.parent.parent.name)
def test_a_verdict_is_read_with_the_uses_of_its_test_rows(path: Path) -> None:
    text = path.read_text(encoding="utf8")
    verdict, before = Verdict.model_validate_json(text), json.loads(text)
    assert verdict.holdout_uses == before["looks"]
    assert (verdict.release, verdict.outcome) == (before["release"], before["outcome"])
    assert len(verdict.results) == len(before["results"])


@pytest.mark.parametrize("path", sorted(OLD.rglob("release/manifest.json")), ids=lambda path: path.parent.parent.name)
def test_a_manifest_is_read(path: Path) -> None:
    manifest = read_manifest(path.parent)
    assert manifest.digest == json.loads(path.read_text(encoding="utf8"))["digest"]


def test_the_files_that_rooms_meet_through_are_read(old: Path) -> None:
    """A training of 0.1 lies in `adapter`, where nobody looks any more: it is trained once more."""
    shutil.move("build/smoke/adapter", "build/smoke/trained")
    paths = RunPaths.of("smoke")
    record, card, metrics = read_training_record(paths), read_data_card(paths), read_metrics(paths.evaluation)
    assert record and record["steps"] == 30 and record["best_validation_loss"] > 0
    assert card and card["splits"]["train"]["rows"] > 0 and card["fingerprint"]
    assert metrics and metrics["n"] > 0


def test_an_old_key_is_answered_by_its_new_name_and_the_rest_is_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for gates that ask what their run does not measure, and for environments that share ports: since, they are
    refused before anything begins."""
    shutil.copytree(OLD, tmp_path, dirs_exist_ok=True)
    names = [
        "old-keys-run.yaml",
        "old-keys-run-classifier.yaml",
        "old-keys-environment.yaml",
        "configs/deploy/old.yaml",
    ]
    monkeypatch.chdir(tmp_path)
    words = tunegate("check", *names, code=2)
    for new in (
        "data.corrupt",
        "data.lint.mojibake",
        "data.lint.no_target_tokens",
        "file_format: jsonl",
        "router",
        "supervision.max_crashes",
    ):
        assert new in words
    assert all(re.search("renamed", line) for line in words.splitlines() if re.match(r"\S+\.yaml:\d+: ", line))
    for name in names:
        rename_keys(tmp_path / name)
    words = tunegate("check", *names, code=2)
    assert "(run old-keys)" in words and "(run old-keys-classifier)" in words
    problems = [line for line in words.splitlines() if re.search(r"\.yaml:\d+: ", line)]
    assert all("configs/gates/" in line or "a port of its own" in line for line in problems)
    environment = tmp_path / "old-keys-environment.yaml"
    environment.write_text(re.sub(r"\b18(111|112|405)\b", r"28\1", environment.read_text()))
    for name, gate in (("old-keys-run", "calls"), ("old-keys-run-classifier", "smoke")):
        path = tmp_path / f"{name}.yaml"
        path.write_text(re.sub(r"(?m)^gate: .*", f"gate: configs/gates/{gate}.yaml", path.read_text()))
    tunegate("check", *names)


@pytest.mark.parametrize(
    "name",
    [
        "old-keys-run",
        "old-keys-run-classifier",
        "old-keys-environment",
        "old-keys-environment-shadow",
        "configs/gates/old-keys-gate",
        "configs/gates/old-keys-load",
        "configs/deploy/old",
    ],
)
def test_every_key_has_the_value_that_it_had(old: Path, name: str) -> None:
    """Every default and every value of YAML that uses nearly all keys, but for the names."""
    path = Path(f"{name}.yaml")
    now = load(path, kind_of(path)).model_dump(mode="json")
    text = json.dumps(said(f"parsed-{path.stem}.json"))
    for name, new in OLD_KEYS.items():
        text = text.replace(f'"{name}":', f'"{new}":')
    # `confident: true` is what every rule is since; `false` asks for the figure itself.
    text = text.replace('"confident": true', '"point": false').replace('"confident": false', '"point": true')
    # An adapter's rate that the YAML does not give.
    text = text.replace('"learning_rate": 0.001,', '"learning_rate": 0.0005,')
    before = json.loads(text)
    if now.get("start_timeout_seconds", 0) is None:  # the 300 s of before are the least where the YAML gives none
        assert before["start_timeout_seconds"] == LEAST_SECONDS
        before["start_timeout_seconds"] = None
    if "lint" in before.get("data", {}):
        before["data"]["lint"]["identical_pair"] = before["data"]["lint"]["no_target_tokens"]
    assert kept(now, before) == before


OTHER_DEFAULTS = {"eval_every_steps": 20}  # about twelve validations a training since


def kept(now: Any, before: Any) -> Any:
    """`now` without the keys that did not exist before, and with the defaults that are others since."""
    if isinstance(now, dict) and isinstance(before, dict):
        same = {key: kept(now[key], value) for key, value in before.items() if key in now}
        return same | {key: was for key, was in OTHER_DEFAULTS.items() if key in same and same[key] is None}
    if isinstance(now, list) and isinstance(before, list) and len(now) == len(before):
        return [kept(one, was) for one, was in zip(now, before, strict=True)]
    return now
