"""`tunegate check` names what a base cannot do, at the key's line, before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from configs.errors import RefusedError
from configs.run.serving import Serving
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


def test_what_the_gpus_of_the_runs_environment_do_not_hold_is_named_at_its_serving(run: Path) -> None:
    """Asked with the weights that quantizing leaves of the base; how it is reckoned is the room's that serves."""
    sizes = {"hidden_size": 2, "intermediate_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1}
    shapes = {"model.embed_tokens.weight": [8, 2], "model.layers.0.weight": [40, 1]}  # 40: its linear modules'
    write_weights(Path("weights/model.safetensors"), shapes)
    config = Path("weights/config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | sizes))
    Path("run.yaml").write_text(f"{RUN}production: x\nserving: {{max_model_len: 512}}\n")
    asked: list[tuple[str | None, float]] = []

    def refusal(environment: str | None, serving: Serving, model: object, weights: float) -> str | None:
        asked.append((environment, weights))
        return "too large"

    found = [(one.line, one.found) for one in check_bases([run], [], refusal) if one.key == "serving"]
    assert found == [(8, "too large")]
    ((environment, weights),) = asked
    assert environment == "x" and round(weights * 2**30) == 16 * 4 + 40, "int8, and the embedding in float32"
