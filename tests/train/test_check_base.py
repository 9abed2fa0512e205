"""`tunegate check` names what a base cannot do, at the key's line, before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from configs.errors import RefusedError
from tests.support.safetensors_files import write_weights
from train.check_base import check_bases

pytestmark = pytest.mark.unit
RUN = """name: demo
task: causal-lm
base: {path: weights}
data: {source: bfcl, max_tokens: 200}
train: {max_steps: 4}
gate: gate.yaml
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A llama of eight tokens and 128 positions, whose tokenizer has a ninth."""
    monkeypatch.chdir(tmp_path)
    write_weights(Path("weights/model.safetensors"), {"model.embed_tokens.weight": [8, 2]})
    tokens = {"model": {"vocab": {f"t{number}": number for number in range(8)}}}
    added = {"added_tokens": [{"id": 8, "content": "<|case|>"}]}
    sizes = {"model_type": "llama", "vocab_size": 8, "max_position_embeddings": 128}
    Path("weights/tokenizer.json").write_text(json.dumps(tokens | added))
    Path("weights/config.json").write_text(json.dumps(sizes))
    Path("gate.yaml").write_text("rules: [{rule: parity}]\n")
    Path("run.yaml").write_text(RUN)
    return Path("run.yaml")


def test_all_that_the_base_cannot_do_is_named_with_its_line(run: Path) -> None:
    found = [(problem.line, problem.key) for problem in check_bases([run, Path("gate.yaml")], [])]
    assert found == [(3, "base"), (4, "data.max_tokens"), (None, "serving.max_model_len")]


def test_overrides_count(run: Path) -> None:
    sets = ["data.max_tokens=64", "serving.max_model_len=128"]
    assert [problem.key for problem in check_bases([run], sets)] == ["base"]


def test_what_is_no_base_is_refused(run: Path) -> None:
    Path("weights/model.safetensors").rename("weights/pytorch_model.bin")
    with pytest.raises(RefusedError, match=r"found only pytorch_model\.bin"):
        check_bases([run], [])


@pytest.mark.parametrize("lacking", [[], ["wandb"], ["tensorboard", "wandb"]])
def test_packages_that_training_would_miss_are_named_before_it(
    run: Path, monkeypatch: pytest.MonkeyPatch, lacking: list[str]
) -> None:
    monkeypatch.setattr("infra.reporters.find_spec", lambda name: None if name in lacking else name)
    problems = check_bases([run], ["train.report_to=[tensorboard, wandb]"])
    found = [problem.found for problem in problems if problem.key == "train.report_to"]
    assert found == [f"{name}, which is not installed" for name in lacking]
