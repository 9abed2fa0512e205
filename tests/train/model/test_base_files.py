"""Which of a place's files are the model: the one on top, never the first match; what is not one whole model is
refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from configs.errors import InputError, RefusedError, TunegateError
from tests.support.safetensors_files import write_model, write_weights
from train.model.base_files import faults_of_weights, passed_by, pick, weight_files

pytestmark = pytest.mark.unit


def files_of(root: Path) -> list[Path]:
    return sorted(root.rglob("*"))


def choose(root: Path) -> Path:
    return pick(files_of(root), f"base.path: {root}", "do this")


@pytest.mark.parametrize(
    "below",
    ["checkpoint-10", "checkpoint-10/nested", "a", "zzz/last", "2_Dense", "onnx", "original", "lora"],
)
def test_the_models_own_weights_win_over_those_below(tmp_path: Path, below: str) -> None:
    write_model(tmp_path)
    write_model(tmp_path / below)
    assert choose(tmp_path) == tmp_path
    assert passed_by(files_of(tmp_path), tmp_path) == [f"{below.split('/')[0]}/"]


@pytest.mark.parametrize("names", [("checkpoint-10", "checkpoint-20"), ("a", "b", "c"), ("x/model", "y/model")])
def test_several_models_and_none_above_them_are_for_the_person_to_choose(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    for name in names:
        write_model(tmp_path / name)
    with pytest.raises(InputError, match=f"found several models .*: {', '.join(names)}; expected one") as caught:
        choose(tmp_path)
    assert names[-1] in str(caught.value.hint)


def test_a_folder_without_model_type_is_no_model(tmp_path: Path) -> None:
    """As a dense or pooling module of sentence-transformers."""
    write_model(tmp_path / "0_Transformer")
    write_weights(tmp_path / "2_Dense/model.safetensors")
    (tmp_path / "2_Dense/config.json").write_text('{"in_features": 4, "out_features": 4}')
    assert choose(tmp_path) == tmp_path / "0_Transformer"


@pytest.mark.parametrize("path", ["", "0_Transformer"])
@pytest.mark.parametrize("kind", ["sentence_transformers.models.Transformer", "a.b.modules.transformer.Transformer"])
def test_modules_json_says_where_the_transformer_is(tmp_path: Path, path: str, kind: str) -> None:
    write_model(tmp_path / path)
    write_model(tmp_path / "2_Dense")
    dense = {"path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    (tmp_path / "modules.json").write_text(json.dumps([{"path": path, "type": kind}, dense]))
    assert choose(tmp_path) == tmp_path / path
    assert passed_by(files_of(tmp_path), tmp_path / path) == ["2_Dense (a Dense module of sentence-transformers)"]


def test_pickles_on_top_are_not_replaced_by_a_checkpoint_below(tmp_path: Path) -> None:
    write_model(tmp_path / "checkpoint-10")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(RefusedError, match=r"pytorch_model\.bin for the model, and safetensors only in checkpoint-10"):
        choose(tmp_path)


@pytest.mark.parametrize(
    ("names", "kind", "message"),
    [
        (["adapter_model.safetensors", "adapter_config.json"], InputError, "a peft adapter"),
        (["checkpoint-5/adapter_model.safetensors", "checkpoint-5/adapter_config.json"], InputError, "a peft adapter"),
        (["consolidated.safetensors", "params.json"], InputError, "the maker's own format"),
        (["a.Q4.gguf", "a.Q8.gguf"], InputError, "a.Q4.gguf, a.Q8.gguf"),
        (["model_index.json", "unet/diffusion_pytorch_model.safetensors"], InputError, "a diffusers pipeline"),
        (["original/consolidated.00.pth"], RefusedError, "only consolidated.00.pth"),
        (["onnx/model.onnx", "openvino/openvino_model.xml"], InputError, "no model"),
        (["training_args.bin", "optimizer.pt", "rng_state_0.pth"], InputError, "no model"),
    ],
)
def test_what_is_no_whole_model_is_refused_by_its_kind(
    tmp_path: Path, names: list[str], kind: type[TunegateError], message: str
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"base_model_name_or_path": "owner/base"}')
    with pytest.raises(kind, match=message) as caught:
        choose(tmp_path)
    assert "adapter" not in message or "owner/base" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["consolidated.safetensors", "model.fp16.safetensors", "x.gguf", "pytorch_model.bin"])
def test_other_formats_beside_the_model_are_named_and_not_taken(tmp_path: Path, name: str) -> None:
    write_model(tmp_path)
    (tmp_path / name).touch()
    assert choose(tmp_path) == tmp_path
    assert passed_by(files_of(tmp_path), tmp_path) == [name]
    assert weight_files(tmp_path) == [tmp_path / "model.safetensors"]


def sharded(folder: Path, index: dict[str, str], shards: dict[str, list[str]]) -> Path:
    for name, tensors in shards.items():
        write_weights(folder / name, {tensor: [2] for tensor in tensors})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return folder


ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
GOOD = {"a": ONE, "b": TWO}


def test_good_weights_have_no_fault(tmp_path: Path) -> None:
    assert faults_of_weights(write_model(tmp_path / "whole")) == []
    assert faults_of_weights(sharded(tmp_path / "shards", GOOD, {ONE: ["a"], TWO: ["b"]})) == []


@pytest.mark.parametrize(
    ("index", "shards", "fault"),
    [
        (GOOD, {ONE: ["a"]}, f"no {TWO}, which"),
        (GOOD, {ONE: ["a", "b"], TWO: ["b"]}, f"b in {ONE} and {TWO}"),
        (GOOD, {ONE: ["a"], TWO: []}, f"no b in {TWO}"),
        ({"a": ONE}, {ONE: ["a"], TWO: ["b"]}, f"{TWO} beside {ONE}"),
        (GOOD, {ONE: ["a"], TWO: ["b"], "model.safetensors": ["a", "b"]}, f"{ONE}, {TWO} beside model.safetensors"),
    ],
)
def test_shards_that_do_not_make_one_model_are_named(
    tmp_path: Path, index: dict[str, str], shards: dict[str, list[str]], fault: str
) -> None:
    assert any(fault in found for found in faults_of_weights(sharded(tmp_path, index, shards)))


def test_shards_without_an_index_cannot_be_loaded(tmp_path: Path) -> None:
    write_weights(tmp_path / ONE)
    assert faults_of_weights(tmp_path) == [
        f"no model.safetensors.index.json, which says what lies in {ONE}",
    ]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "no bytes at all"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html>not found</html>", "no safetensors header"),
        (None, "1 bytes too few"),
    ],
)
def test_weights_that_were_not_fetched_whole_are_refused(tmp_path: Path, content: bytes | None, fault: str) -> None:
    file = write_weights(tmp_path / "model.safetensors")
    file.write_bytes(file.read_bytes()[:-1] if content is None else content)
    assert fault in faults_of_weights(tmp_path)[0]
