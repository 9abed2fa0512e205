"""What a verdict must hold for before its release is let in; each refusal names the commands that judge anew."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from configs.environment.config import DeployConfig
from configs.environment.signing import Signing
from configs.errors import RefusedError
from configs.verdict import Binding, RuleResult, Verdict
from infra.signing import sign, signature_of
from serve.record.champion import last_served, read_judged
from serve.switch import verdict as checked
from serve.switch.reconcile import check_release
from serve.switch.verdict import check_verdict
from tests.infra.test_signing import make_pair
from tests.support.fake_machine import environment
from tests.support.few_bytes import publish
from tests.support.judging import GATE, bound_verdict, verdict_path

pytestmark = pytest.mark.unit
OLD = "old@sha256:" + "1" * 64
ANEW = (
    "tunegate evaluate configs/finetune/new.yaml --production x"
    " && tunegate gate configs/finetune/new.yaml --production x"
    " && tunegate releases publish configs/finetune/new.yaml"
)


SWITCHED: dict[str, Any] = {
    "from": None,
    "from_release": None,
    "before": {},
    "counted": {},
    "flip_milliseconds": 1.0,
    "first_request_milliseconds": 1.0,
    "streams_open_at_switch": 0,
}


@pytest.fixture
def new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return publish("new")


def config(**facts: Any) -> DeployConfig:
    return environment().config.model_copy(update={"release_gate": str(GATE)} | facts)


def serve(reference: str, folder: str = "state", *, baked: bool = True) -> None:
    """A record in which this release got all of the traffic."""
    record = environment(folder).record
    record.append("starting", "blue", release=reference)
    record.append("switched", "blue", **SWITCHED)
    if baked:
        record.append("baked", "blue")


def check(found: Verdict, reference: str, asked: DeployConfig | None = None) -> None:
    path = verdict_path(reference)
    found.write(path)
    check_verdict(asked or config(), reference, path)


def refused(found: Verdict, reference: str, words: str, asked: DeployConfig | None = None, anew: str = ANEW) -> None:
    with pytest.raises(RefusedError) as caught:
        check(found, reference, asked)
    assert words in caught.value.message and reference in caught.value.message
    assert caught.value.hint == anew


def test_what_was_judged_for_this_environment_by_its_gate_against_what_serves_is_let_in(new: str) -> None:
    check(bound_verdict(new, "x"), new)
    serve(OLD)
    check(bound_verdict(new, "x", champion=OLD), new)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"environment": "staging"}, "it was judged for staging, not for x"),
        ({"environment": None}, "it was judged for no environment, not for x"),
        ({"gate_digest": "sha256:" + "0" * 64}, "has changed since it was judged"),
        ({"gate": "configs/gates/smoke.yaml", "gate_digest": "sha256:0"}, "judged by configs/gates/smoke.yaml, not by"),
        ({"versions": {"evaluation": "1", "vllm": "not installed"}}, "measured with evaluation 1, here it is"),
        ({"versions": {}}, "measured with evaluation unknown, here it is"),
        ({"conditions": None}, "without an evaluation that says how it was measured"),
        ({"look": None}, "the artifact store did not answer"),
        ({"release": OLD}, "it says otherwise than its binding"),
        ({"outcome": "fail"}, "it says otherwise than its binding"),
        ({"champion": OLD}, "it says otherwise than its binding"),
    ],
)
def test_each_thing_that_it_is_bound_to_must_be_so(new: str, changes: dict[str, Any], words: str) -> None:
    refused(bound_verdict(new, "x", changes=changes), new, words)


def test_it_must_have_been_judged_against_what_serves_now(new: str) -> None:
    other = "other@sha256:" + "2" * 64
    serve(OLD)
    refused(bound_verdict(new, "x"), new, "judged against no champion, but old@111111111111 serves in x")
    refused(bound_verdict(new, "x", champion=other), new, "judged against other@222222222222, but old@111111111111")
    serve(other)
    refused(bound_verdict(new, "x", champion=OLD), new, "judged against old@111111111111, but other@222222222222")
    check(bound_verdict(new, "x", champion=other), new)


def test_where_this_machine_has_no_record_the_pin_that_is_replaced_says_it(new: str) -> None:
    refused(bound_verdict(new, "x"), new, "but old@111111111111 serves in x", config(release=OLD))
    check(bound_verdict(new, "x", champion=OLD), new, config(release=OLD))
    check(bound_verdict(new, "x", champion=OLD), new, config(release=new))


def test_what_serves_or_once_came_through_its_bake_here_may_come_back(new: str) -> None:
    """With a verdict of an earlier version too; what never came through may not."""
    unbound = Verdict(release=new, outcome="pass", results=[])
    serve(new, baked=False)
    check(unbound, new)
    serve(OLD)
    refused(unbound, new, "an earlier tunegate wrote it")
    serve(new)
    serve(OLD)
    check(unbound, new)
    check(bound_verdict(new, "elsewhere", changes={"look": None}), new)
    with pytest.raises(RefusedError, match="the verdict is fail"):
        check(unbound.model_copy(update={"outcome": "fail"}), new)


def test_where_a_key_is_pinned_what_it_was_judged_by_must_be_signed_too(new: str, tmp_path: Path) -> None:
    """What serves or came through its bake here may come back: a publication of before has no such signature."""
    pair = make_pair(tmp_path)
    asked, found = config(signing=Signing(public_key=pair.public.read_text())), bound_verdict(new, "x")
    where = verdict_path(new).parents[1]
    (where / "eval").mkdir()
    metrics = where / "eval/metrics.json"
    metrics.write_text("{}")
    sign_it = f"tunegate releases sign {new}   (by the owner of the key; docs/security.md)"
    for folder in (where / "gate", where / "eval"):
        with pytest.raises(RefusedError, match=rf"found no .*{folder.name}\.sig") as caught:
            check(found, new, asked)
        assert caught.value.hint == sign_it
        sign(folder, pair.private)
    check(found, new, asked)
    for changed in (metrics, verdict_path(new)):
        before = changed.read_bytes()
        changed.write_bytes(before + b" ")
        with pytest.raises(RefusedError, match=f"{changed.parent.name}.sig: "):
            check_verdict(asked, new, verdict_path(new))
        changed.write_bytes(before)
    signature_of(where / "gate").unlink()
    serve(new)
    check(found, new, asked)


def test_a_verdict_of_another_vllm_is_refused(new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = bound_verdict(new, "x")
    monkeypatch.setattr(checked, "vllm_version", lambda: "0.99")
    refused(found, new, "measured with vllm not installed, here it is 0.99")


def test_the_harness_counts_where_it_was_asked_and_is_here(new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = bound_verdict(new, "x").binding.versions  # type: ignore[union-attr]  # it has one
    asked = bound_verdict(new, "x", changes={"versions": versions | {"lm_eval": "0.1"}})
    monkeypatch.setattr(checked, "harness_version", lambda: "0.2")
    refused(asked, new, "measured with lm_eval 0.1, here it is 0.2")
    monkeypatch.setattr(checked, "harness_version", lambda: None)
    check(asked, new)


def test_an_environment_that_states_no_gate_lets_nothing_new_in(new: str) -> None:
    refused(bound_verdict(new, "x"), new, "x states no release_gate", config(release_gate=None))


def test_a_staging_environment_takes_what_was_judged_for_the_one_that_it_goes_before(new: str) -> None:
    folder = Path("configs/deploy")
    folder.mkdir(parents=True)
    Path("gate.yaml").write_text(GATE.read_text(encoding="utf8"))
    settings = "name: x\nmodel: m\ngate: null\nrelease_gate: gate.yaml\nstate_dir: state\n"
    (folder / "x.yaml").write_text(settings)
    (folder / "before.yaml").write_text("name: before\nmodel: m\ngate: null\nstaging_for: x\nstate_dir: before\n")
    staging = DeployConfig(name="before", model="m", gate=None, staging_for="x", state_dir="before")
    check(bound_verdict(new, "x"), new, staging)
    refused(bound_verdict(new, "before"), new, "it was judged for before, not for x", staging)
    serve(OLD)  # in x, which staging goes before
    refused(bound_verdict(new, "x"), new, "but old@111111111111 serves in x", staging)
    check(bound_verdict(new, "x", champion=OLD), new, staging)
    assert read_judged("before").name == "x" and read_judged("before").release == OLD == read_judged("x").release


def test_of_several_verdicts_the_one_for_this_environment_counts(new: str) -> None:
    """The newest is for another; of a third there is none, and the refusal says what the newest is for."""
    judged = {"results": [RuleResult(rule="accuracy", outcome="pass", sentence="0.9")]}
    newest = verdict_path(new)
    folder = newest.parents[1]
    bound_verdict(new, "elsewhere").model_copy(update=judged).write(newest)
    bound_verdict(new, "x").model_copy(update=judged).write(folder / "judged/x/gate/verdict.json")
    assert check_release(config(), new) == folder
    with pytest.raises(RefusedError, match="it was judged for elsewhere, not for third"):
        check_release(config(name="third"), new)
    serve(OLD)
    with pytest.raises(RefusedError, match="against no champion, but old@"):
        check_release(config(), new)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), champion=st.sampled_from([None, OLD]))
def test_no_changed_byte_of_the_binding_passes(new: str, place: float, byte: int, champion: str | None) -> None:
    """As it lies on disk, without spaces: every byte of it means something."""
    found = json.loads(bound_verdict(new, "x", champion=champion).model_dump_json())
    whole = json.dumps(found, separators=(",", ":")).encode()
    binding = json.dumps(found["binding"], separators=(",", ":")).encode()
    at = whole.index(binding) + int(place * len(binding))
    assume(whole[at] != byte)
    path = verdict_path(new)
    path.write_bytes(whole)
    check_verdict(config(), new, path)
    path.write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
    with pytest.raises(RefusedError):
        check_verdict(config(), new, path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(name=st.sampled_from(sorted(Binding.model_fields)), data=st.data())
def test_no_other_value_of_any_part_of_it_passes(new: str, name: str, data: st.DataObject) -> None:
    found = json.loads(bound_verdict(new, "x", champion=OLD).model_dump_json())
    texts = st.text(max_size=5)
    values: Any = st.none() | st.booleans() | st.integers() | texts | st.dictionaries(texts, texts)
    value = data.draw(values)
    assume(value != found["binding"][name])
    found["binding"][name] = value
    path = verdict_path(new)
    path.write_text(json.dumps(found))
    with pytest.raises(RefusedError):
        check_verdict(config(), new, path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"release": 1}', "\xff"])
def test_what_is_no_verdict_is_refused(new: str, text: str) -> None:
    verdict_path(new).write_bytes(text.encode("latin1"))
    with pytest.raises(RefusedError, match="not a verdict"):
        check_verdict(config(), new, verdict_path(new))
    verdict_path(new).unlink()
    with pytest.raises(RefusedError, match="no verdict beside it") as caught:
        check_verdict(config(), new, verdict_path(new))
    assert re.fullmatch(re.escape(ANEW), str(caught.value.hint))


def test_what_had_the_traffic_last_is_the_champion_also_when_all_is_stopped(new: str) -> None:
    assert last_served(config()) is None
    serve(OLD)
    serve(new, baked=False)
    assert last_served(config()) == new
    environment().record.append("stopped", "blue", release=new, why="stop")
    assert last_served(config()) == new
