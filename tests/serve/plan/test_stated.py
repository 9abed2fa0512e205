"""What the GPUs that an environment states could never hold is refused on a machine that has none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from configs.errors import RefusedError
from configs.read import read_environment
from configs.run.serving import Serving
from infra.dvc.releases import folder_of
from serve.plan.stated import refusal, refuse_unservable
from tests.serve.plan.test_gpu_memory import LLAMA_8B
from tests.support.few_bytes import publish

pytestmark = pytest.mark.unit
BF16 = {"dtype": "bfloat16", "max_model_len": 8192}


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("configs/deploy").mkdir(parents=True)
    return tmp_path


def environment(**slots: Any) -> None:
    text = json.dumps({"name": "x", "model": "m", "gate": None, "slots": slots})
    Path("configs/deploy/x.yaml").write_text(text)


def why(weights: float, **serving: Any) -> str | None:
    return refusal("x", Serving.model_validate(BF16 | {"device": "cuda"} | serving), LLAMA_8B, weights)


@pytest.mark.parametrize(
    ("gpus", "weights", "serving", "fits"),
    [
        ({"count": 1, "gib": 80}, 15.0, {}, True),
        ({"count": 1, "gib": 24}, 15.0, {}, True),
        ({"count": 1, "gib": 16}, 15.0, {}, False),
        ({"count": 1, "gib": 80}, 131.0, {}, False),
        ({"count": 8, "gib": 80}, 131.0, {}, False),
        ({"count": 8, "gib": 80}, 131.0, {"tensor_parallel_size": 2}, True),
        ({"count": 1, "gib": 80}, 131.0, {"tensor_parallel_size": 2}, False),
        ({"count": 1, "gib": 16}, 15.0, {"device": "cpu"}, True),
        ({"count": 1, "gib": 16}, 15.0, {"device": "auto"}, False),
    ],
    ids=[
        "8B, 80 GiB", "8B, 24 GiB", "8B, 16 GiB", "70B, one GPU", "70B, eight, not split", "70B, split over two",
        "70B, split over two, one is there", "a CPU serves it", "auto: the environment has GPUs",
    ],
)  # fmt: skip
def test_what_one_slot_does_not_fit_is_refused(
    gpus: dict[str, float], weights: float, serving: dict[str, Any], fits: bool
) -> None:
    environment(gpus=gpus)
    found = why(weights, **serving)
    assert (found is None) is fits
    assert found is None or ("weights" in found and f"{gpus['count']} x {gpus['gib']} GiB (slots.gpus)" in found)


def test_a_slots_servers_count() -> None:
    environment(gpus={"count": 1, "gib": 80}, servers=3)
    assert why(15.0) is None
    environment(gpus={"count": 1, "gib": 80}, servers=5)
    assert "5 servers, each of them" in str(why(15.0))


def test_nothing_stated_nothing_refused() -> None:
    environment()
    assert why(1000.0) is None
    assert refusal(None, Serving(), {}, 1000.0) is None
    assert refusal("elsewhere", Serving.model_validate(BF16), LLAMA_8B, 1000.0) is None
    environment(gpus={"count": 1, "gib": 80})
    assert refusal("x", Serving.model_validate(BF16), {"model_type": "unheard-of"}, 1000.0) is None


def test_a_release_that_would_never_fit_is_refused_by_its_name() -> None:
    reference = publish("demo")
    release = folder_of(reference) / "release"
    (release / "config.json").write_text(json.dumps(LLAMA_8B))
    environment(gpus={"count": 1, "gib": 1})
    with pytest.raises(RefusedError, match=f"{reference} does not fit the GPUs of x"):
        refuse_unservable(read_environment("x"), release)
    refuse_unservable(read_environment("x"), Path("nothing/here"))
    environment(gpus={"count": 1, "gib": 80})
    refuse_unservable(read_environment("x"), release)
