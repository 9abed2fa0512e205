"""Several verdicts beside the same bytes: one an environment, the newest for each."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs.verdict import Verdict
from infra.dvc import releases
from infra.dvc.judgements import judged_for, put_judgement, verdict_path
from infra.dvc.publish import publish
from tests.support.judging import bound_verdict
from tests.support.releases import checkout, make_run

__all__ = ["checkout"]
pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore:_NoneStep.value")]  # the warning is inside DVC


def read(target: Path, environment: str | None) -> Verdict:
    return Verdict.read(verdict_path(target, environment))


def evaluated(target: Path, environment: str) -> str:
    return (verdict_path(target, environment).parents[1] / "eval/metrics.json").read_text()


def test_each_environment_keeps_its_verdict_and_its_evaluation(checkout: Path) -> None:
    paths, manifest = make_run()
    found = {name: bound_verdict(manifest.reference, name) for name in ("staging", "production")}
    for name, verdict in found.items():
        verdict.write(paths.gate / "verdict.json")
        (paths.evaluation / "metrics.json").write_text(f'{{"judged": "{name}"}}')
        target = publish(paths)
    shutil.rmtree(target)
    assert releases.find(manifest.reference) == target, "the remote has them all"
    for name, verdict in found.items():
        assert read(target, name) == verdict and name in evaluated(target, name)
    assert read(target, "third") == read(target, None) == found["production"]
    (row,) = releases.list_releases()
    assert row["judged_for"] == ["production", "staging"]
    shutil.rmtree(target)
    assert releases.list_releases() == [row | {"here": False}], "its pointer says so too"


def test_a_verdict_that_names_no_environment_is_replaced(checkout: Path) -> None:
    """That of an earlier tunegate, say."""
    paths, manifest = make_run()
    target = publish(paths)
    assert judged_for(target) == []
    bound_verdict(manifest.reference, "production").write(paths.gate / "verdict.json")
    publish(paths)
    assert judged_for(target) == ["production"] and not (target / "judged").exists()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(order=st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=8))
def test_in_any_order_the_last_one_for_an_environment_is_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: list[str | None]
) -> None:
    monkeypatch.chdir(tmp_path)
    paths, manifest = make_run()
    target, last = Path("published"), dict[str | None, Verdict]()
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for number, name in enumerate(order):
        last[name] = bound_verdict(manifest.reference, "", changes={"environment": name, "n": number})
        last[name].write(paths.gate / "verdict.json")
        put_judgement(paths, target)
        named = {one for one in order[: number + 1] if one}
        assert read(target, None) == last[name] and set(judged_for(target)) == named
        assert len(judged_for(target)) == len(named), "none has two"
        assert all(read(target, one) == last[one] for one in named)
