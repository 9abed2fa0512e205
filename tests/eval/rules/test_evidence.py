"""What the gate gets to see: whole evaluations only, each of exactly the release it is named for."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs.environment.config import DeployConfig
from configs.errors import InputError
from configs.metrics import Metrics, why_not_comparable
from configs.paths import RunPaths
from configs.release import Manifest
from configs.run.evaluate import Evaluate
from eval.measure.predictions import write_predictions
from eval.metrics.score import score
from eval.rules.evidence import Measured, find_measured, gather, read_measured
from infra.files.atomic import write_json
from infra.vllm.answer import Answer

pytestmark = pytest.mark.unit
WriteRelease = Callable[..., Manifest]
WriteMeasured = Callable[..., Path]
CHAMPION, OTHER = "champion@sha256:" + "c" * 64, "other@sha256:" + "d" * 64
RUN = RunPaths.of("run")


def production(release: str | None) -> DeployConfig:
    return DeployConfig(name="local", model="assistant", release=release, gate=None)


def test_a_whole_evaluation_is_read_by_id(tmp_path: Path, write_measured: WriteMeasured) -> None:
    measured = read_measured(write_measured(tmp_path / "eval", OTHER, {"x": 1.0, "y": 0.0}))
    assert measured is not None and measured.record["release"] == OTHER
    assert measured.frame is not None and measured.frame.to_dict("list") == {
        "id": ["x", "y"], "gold": ["good", "good"], "answer": ["good", "bad"], "correct": [1.0, 0.0]
    }  # fmt: skip
    assert (
        measured.frame is not None
        and [*measured.frame["id"]] == ["x", "y"]
        and [*measured.frame["answer"]] == ["good", "bad"]
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["metrics.json", "predictions.parquet"]), st.floats(0, 1, exclude_max=True))
def test_a_torn_file_is_no_evaluation(tmp_path: Path, write_measured: WriteMeasured, name: str, kept: float) -> None:
    path = write_measured(tmp_path / "eval", OTHER, {"x": 1.0, "y": 0.0}) / name
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    assert read_measured(path.parent) is None


def test_a_missing_file_repeated_ids_or_another_shape_is_no_evaluation(
    tmp_path: Path, write_measured: WriteMeasured
) -> None:
    assert read_measured(tmp_path / "nowhere") is None
    for name in ("metrics.json", "predictions.parquet"):
        (write_measured(tmp_path / f"without {name}", OTHER, {"x": 1.0}) / name).unlink()
        assert read_measured(tmp_path / f"without {name}") is None
    (write_measured(tmp_path / "list", OTHER, {"x": 1.0}) / "metrics.json").write_text("[]")
    odd: dict[str, Any] = {"twice": {"id": ["x", "x"], "correct": [1.0, 0.0]}, "nameless": {"correct": [1.0]}}
    for name, columns in odd.items():
        pandas.DataFrame(columns).to_parquet(write_measured(tmp_path / name, OTHER, {"x": 1.0}) / "predictions.parquet")
    assert [read_measured(tmp_path / name) for name in ("list", "twice", "nameless")] == [None, None, None]


@pytest.mark.parametrize(
    "places",
    [
        ("build/one", "build/two"),
        ("build/two", "build/one"),
        ("releases/one", "build/two"),
        ("build/one", "releases/two"),
    ],
)
def test_the_evaluation_on_the_same_rows_is_preferred(
    checkout: Path, write_measured: WriteMeasured, places: tuple[str, str]
) -> None:
    for place, dataset in zip(places, ("rows-1", "rows-2"), strict=True):
        write_measured(checkout / place / "eval", CHAMPION, {"x": 1.0}, dataset=dataset)
    write_measured(checkout / "build/stranger/eval", OTHER, {"x": 0.0}, dataset="rows-3")
    for wanted in ("rows-1", "rows-2"):
        found = find_measured(CHAMPION, mine(wanted))
        assert found is not None and found.record["dataset"] == wanted
    fallback = find_measured(CHAMPION, mine("rows-3"))
    assert fallback is not None and fallback.record["release"] == CHAMPION, (
        "on other rows rather than of another release"
    )
    assert find_measured("champion@sha256:" + "e" * 64, mine("rows-1")) is None


def mine(dataset: str, **record: Any) -> Measured:
    return Measured(Metrics(release=OTHER, dataset=dataset, **record))  # type: ignore[typeddict-item]  # as it is read


CONDITIONS = {"rows": "rows-1", "settings": "s", "versions": {"vllm": "1", "evaluation": "4"}}


def test_only_an_evaluation_of_the_same_key_but_for_the_release_is_taken(
    checkout: Path, write_measured: WriteMeasured
) -> None:
    """On the same rows, but through another vLLM or by other settings: rather not."""
    newer = CONDITIONS | {"versions": {"vllm": "2", "evaluation": "4"}}
    for place, conditions in (("a", newer), ("b", CONDITIONS | {"settings": "t"}), ("c", CONDITIONS)):
        write_measured(checkout / f"build/{place}/eval", CHAMPION, {"x": 1.0}, conditions=conditions)
    found = find_measured(CHAMPION, mine("rows-1", conditions=CONDITIONS))
    assert found is not None and found.record["conditions"] == CONDITIONS


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({}, None),
        ({"dataset": "rows-2"}, "other test rows"),
        ({"conditions": CONDITIONS | {"settings": "t"}}, "other settings"),
        ({"conditions": CONDITIONS | {"versions": {"vllm": "2", "evaluation": "4"}}}, "vllm 2, the release with 1"),
        ({"conditions": CONDITIONS | {"versions": {"vllm": "1"}}}, "evaluation none, the release with 4"),
        ({"conditions": None}, "another version of tunegate"),
    ],
)
def test_what_keeps_two_evaluations_apart_is_said(other: dict[str, Any], words: str | None) -> None:
    one: Any = {"dataset": "rows-1", "conditions": CONDITIONS}
    found = why_not_comparable(one, one | other)
    assert found is None if words is None else found and words in found


def test_everything_there_is_gathered(
    checkout: Path, write_release: WriteRelease, write_measured: WriteMeasured
) -> None:
    manifest = write_release(
        RUN.release, base={"digest": "sha256:base"}, quantization={"parent_digest": "sha256:parent"}
    )
    write_measured(RUN.evaluation, manifest.reference, {"x": 1.0})
    for name in ("base", "parent"):
        write_measured(RUN.evaluation / name, f"{name}@sha256:base", {"x": 0.0})
    write_measured(checkout / "releases/champion@cccccccccccc/eval", CHAMPION, {"x": 1.0})
    evidence = gather(RUN, production(CHAMPION))
    assert (evidence.release, evidence.champion, evidence.base) == (manifest.reference, CHAMPION, "sha256:base")
    assert (evidence.parent, evidence.environment) == ("sha256:parent", production(CHAMPION).name)
    assert evidence.measured is not None and evidence.measured.record["release"] == manifest.reference
    assert {name: measured.record["release"] for name, measured in evidence.references.items()} == {
        "champion": CHAMPION,
        "base": "base@sha256:base",
        "parent": "parent@sha256:base",
    }


def test_a_parent_that_nobody_knows_to_be_this_releases_is_no_evidence(
    checkout: Path, write_release: WriteRelease, write_measured: WriteMeasured
) -> None:
    """A manifest of an earlier version does not name it; then the folder beside the release does, if it was made with
    it."""
    write_measured(RUN.evaluation, write_release(RUN.release, quantization={"key": "one"}).reference, {"x": 1.0})
    write_measured(RUN.evaluation / "parent", "parent@sha256:p", {"x": 1.0})
    assert gather(RUN, None).references == {}
    parent = write_release(RUN.parent, name="parent", weights=b"unquantized", quantization={"key": "another"})
    assert gather(RUN, None).references == {}
    write_release(RUN.parent, name="parent", weights=b"unquantized", quantization={"key": "one"})
    found = gather(RUN, None)
    assert found.parent == parent.digest and set(found.references) == {"parent"}


def test_a_release_that_a_rule_names_is_looked_for_like_the_champion(
    checkout: Path, write_release: WriteRelease, write_measured: WriteMeasured
) -> None:
    write_measured(RUN.evaluation, write_release(RUN.release).reference, {"x": 1.0})
    assert gather(RUN, None, [OTHER]).references == {}
    write_measured(checkout / "build/elsewhere/eval", OTHER, {"x": 0.0}, dataset="rows-2")
    assert gather(RUN, None, [OTHER]).references[OTHER].record["dataset"] == "rows-2"
    write_measured(RUN.evaluation / "other@dddddddddddd", OTHER, {"x": 0.0})
    assert gather(RUN, None, [OTHER]).references[OTHER].record["dataset"] == "rows-1", "measured on the run's own rows"
    write_measured(RUN.evaluation / "other@dddddddddddd", CHAMPION, {"x": 0.0})
    assert gather(RUN, None, [OTHER]).references[OTHER].record["release"] == OTHER


def test_what_is_absent_stays_absent(
    checkout: Path, write_release: WriteRelease, write_measured: WriteMeasured
) -> None:
    with pytest.raises(InputError, match="not a release"):
        gather(RUN, None)
    write_release(RUN.release)
    evidence = gather(RUN, production(CHAMPION))
    assert evidence.measured is None and evidence.champion == CHAMPION and evidence.references == {}
    write_measured(checkout / "releases/champion@cccccccccccc/eval", CHAMPION, {"x": 1.0})
    for nothing_pinned in (None, production(None)):
        evidence = gather(RUN, nothing_pinned)
        assert evidence.champion is None and evidence.references == {}


def test_an_evaluation_as_the_gate_sees_it_is_what_evaluate_wrote(tmp_path: Path) -> None:
    scored = score(
        "sequence-classification",
        {"id": "x", "label": "g"},
        Answer("a", "a", {"g": 0.5, "a": 0.5}, None, 0.1, 0),
        Evaluate(),
    )
    write_predictions(tmp_path, iter([scored | {"slices": ["label=g"]}]))
    write_json(tmp_path / "metrics.json", {"release": OTHER, "metrics": {}})
    found = read_measured(tmp_path)
    assert found is not None and found.record == {"release": OTHER, "metrics": {}}
    (row,) = found.frame.to_dict("records") if found.frame is not None else []
    assert (row["id"], row["gold"], row["answer"], row["correct"], list(row["slices"])) == (
        "x",
        "g",
        "a",
        0.0,
        ["label=g"],
    )
    assert (row["log_loss"], row["brier"]) == pytest.approx((math.log(2), 0.25))
