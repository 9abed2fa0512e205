"""An evaluation is known by what it is of, and is taken only where it is whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs.release import Manifest
from configs.run.config import RunConfig
from eval.measure import cache
from eval.measure.cache import answers_key, conditions_of, evaluation_key, read_finished
from eval.measure.harness import harness_version

pytestmark = pytest.mark.unit
ASKED: list[dict[str, Any]] = [{"max_new_tokens": 7}, {"concurrency": 3}]
COUNTED: list[dict[str, Any]] = [
    {"minimum_slice": 3},
    {"normalize": "none"},
    {"slices": []},
    {"slices": [{"by": "label"}]},
    {"parity": {"max_difference": 0.2}},
]
NAME = "run@sha256:" + "a" * 64


@pytest.fixture(autouse=True)
def empty_store(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "find_evaluation", lambda key, folder: False)


def write(folder: Path, key: str, *, metrics: str | None = None, **record: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "predictions.parquet").write_text("rows")
    (folder / "metrics.json").write_text(
        json.dumps({"key": key, "release": "old", "metrics": {"accuracy": 0.5, "size_ratio": 2}} | record)
        if metrics is None
        else metrics
    )
    return folder


def test_a_key_is_that_of_bytes_rows_and_questions_and_of_nothing_else(
    config: Callable[..., RunConfig], write_release: Callable[..., Manifest]
) -> None:
    one, other = write_release(Path("a")), write_release(Path("b"), weights=b"others")
    keys = [evaluation_key(manifest.digest, dataset, config()) for manifest in (one, other) for dataset in ("d", "e")]
    keys += [evaluation_key(one.digest, "d", config(evaluate=change)) for change in ASKED + COUNTED]
    assert len({*keys}) == len(keys)
    same = config(name="renamed", gate="other.yaml", evaluate={"baseline": True}, train={"max_steps": 9})
    assert evaluation_key(one.digest, "d", same) == keys[0]
    asked = [answers_key(one.digest, "d", config(evaluate=change)) for change in ({}, *ASKED)]
    assert len({*asked}) == 3 and {answers_key(one.digest, "d", config(evaluate=change)) for change in COUNTED} == {
        asked[0]
    }


def test_a_key_knows_what_measures(config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    judge = {"base_url": "http://127.0.0.1/v1", "model": "judge-1", "prompt": "{{ answer }}", "scale": [0, 1]}
    asked = config(task="causal-lm", evaluate={"harness": [{"task": "arc_easy"}], "judge": judge})
    assert set(conditions_of("d", config())["versions"]) == {"evaluation", "vllm"}
    found = conditions_of("d", asked)["versions"]
    assert found["judge"] == "judge-1" and found["lm_eval"] == harness_version()
    keys = {evaluation_key("sha256:x", "d", asked)}
    for name, value in (("vllm_version", lambda: "0"), ("harness_version", lambda: "0"), ("EVALUATION_VERSION", 0)):
        monkeypatch.setattr(cache, name, value)
        keys.add(evaluation_key("sha256:x", "d", asked))
    assert len(keys) == 4


def test_a_key_stays_what_it_was(config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept evaluations and answers are found by it. Another version of what is counted: raise EVALUATION_VERSION."""
    monkeypatch.setattr(cache, "vllm_version", lambda: "0.1")
    assert evaluation_key("sha256:digest", "sha256:rows", config()) == (
        "918a5f4d6b5ff2f776ca78c7dee1b8d86e9619c2cfafa0c0c52b43b6f4f49792"
    )
    assert answers_key("sha256:digest", "sha256:rows", config()) == (
        "ad196a7a107edf247d7c2aa7e209bd7f6150baf5a52c35ca0d3d5a87daad8ece"
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=8) | st.sampled_from(["[]", "null", '{"key": "other", "metrics": {}}', '{"key": "k"']))
def test_what_is_not_whole_or_not_of_this_key_is_not_found(text: str) -> None:
    assert read_finished(write(Path("build/other/eval"), "k", metrics=text), "k") is None
    assert cache.get("k", Path("build/run/eval"), NAME, probed=False) is None


def test_it_is_found_wherever_it_lies_and_bears_the_name_that_was_asked_for() -> None:
    target = Path("build/run/eval")
    for place in ("build/other/eval", "build/other/eval/base", "releases/old@1/eval", "releases/old@1/eval/champion"):
        folder = write(Path(place), "k")
        found = cache.get("k", target, NAME, probed=False)
        assert (
            found == json.loads((target / "metrics.json").read_text())
            and found is not None
            and found["release"] == NAME
        ), place
        assert (target / "predictions.parquet").read_text() == "rows" and json.loads(
            (folder / "metrics.json").read_text()
        )["release"] == "old"
        for file in (*folder.iterdir(), *target.iterdir()):
            if file.is_file():
                file.unlink()


def test_what_a_comparison_added_is_not_part_of_it() -> None:
    found = read_finished(write(Path("build/run/eval"), "k", compared=["size_ratio"]), "k")
    assert found == {"key": "k", "release": "old", "metrics": {"accuracy": 0.5}}


def test_a_comparison_wants_one_that_was_probed() -> None:
    target, folder = Path("build/run/eval"), write(Path("build/other/eval"), "k")
    assert cache.get("k", target, NAME, probed=True) is None
    (folder / "probe.json").write_text("{}")
    assert cache.get("k", target, NAME, probed=True) is not None and (target / "probe.json").exists()
