"""Base weights: the right file of a package or a directory, made once, made anew when the bytes change."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from configs.digest import sha256_of
from configs.errors import InputError, RefusedError
from configs.release import verify_release
from configs.run.config import RunConfig
from infra.files.hashes import FileHashes
from train.model.base import KEPT, bring_files, library_versions, make_base, weights_size

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.model",
        "chat_template.jinja",
        "vocab.txt",
        "merges.txt",
        "spiece.model",
        "sentencepiece.bpe.model",
        "added_tokens.json",
        "additional_chat_templates/tool_use.jinja",
    ],
)
def test_what_serving_needs_is_kept(name: str) -> None:
    assert KEPT.fullmatch(name)


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin",
        "optimizer.pt",
        "train.py",
        "training_args.bin",
        "README.md",
        ".env",
        "preprocessor_config.json",
        "model.fp16.safetensors",
    ],
)
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


def test_the_name_alone_leads_to_the_base_made_last_and_never_stands_in_for_another(
    classifier: Callable[..., RunConfig], checkout: Path
) -> None:
    for place in ("one", "two"):
        shutil.copytree("tiny-bert", checkout / place / "tiny-bert")
    one, two = (make_base(classifier(base={"path": f"{place}/tiny-bert"})) for place in ("one", "two"))
    link = Path("build/base/tiny-bert")
    assert one != two and link.is_symlink() and link.resolve() == two.resolve()
    assert make_base(classifier()) == link and not link.is_symlink() and two.exists()
    assert make_base(classifier(base={"path": "one/tiny-bert"})) == one and not link.is_symlink()


def test_other_weights_under_the_same_name_are_made_anew(classifier: Callable[..., RunConfig], tiny_gpt: Path) -> None:
    first = verify_release(make_base(classifier())).digest
    shutil.copyfile(tiny_gpt / "model.safetensors", "tiny-bert/model.safetensors")
    assert verify_release(make_base(classifier())).digest != first


def test_a_flipped_byte_in_the_base_is_mended(classifier: Callable[..., RunConfig]) -> None:
    made = make_base(classifier())
    digest = verify_release(made).digest
    weights = bytearray((made / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (made / "model.safetensors").unlink()  # it is the source's own inode
    (made / "model.safetensors").write_bytes(weights)
    assert verify_release(make_base(classifier())).digest == digest


def test_weights_without_config_are_refused_and_leave_nothing(classifier: Callable[..., RunConfig]) -> None:
    Path("tiny-bert/config.json").unlink()
    with pytest.raises(InputError, match=r"no config\.json"):
        make_base(classifier())
    assert not Path("build/base/tiny-bert").exists()


def test_versions_name_the_libraries_that_made_the_bytes() -> None:
    assert {"torch", "transformers", "peft"} <= library_versions().keys()


def test_a_pinned_digest_is_held_before_the_weights_are_used(classifier: Callable[..., RunConfig]) -> None:
    with pytest.raises(RefusedError, match=r"found sha256:[0-9a-f]{64}, expected sha256:0{64}"):
        make_base(classifier(base={"digest": f"sha256:{'0' * 64}"}))
    assert not Path("build/base/tiny-bert").exists()
    digest = verify_release(make_base(classifier())).digest
    assert make_base(classifier(base={"digest": digest})) == Path("build/base/tiny-bert")
    with pytest.raises(RefusedError, match="these are other weights"):
        make_base(classifier(base={"digest": f"sha256:{'0' * 64}"}))


def test_a_tokenizer_that_mlflow_keeps_apart_comes_along(classifier: Callable[..., RunConfig]) -> None:
    Path("tiny-bert/model").mkdir()
    Path("tiny-bert/components/tokenizer").mkdir(parents=True)
    for file in [file for file in Path("tiny-bert").iterdir() if file.is_file()]:
        file.rename(Path("tiny-bert/components/tokenizer" if "token" in file.name else "tiny-bert/model") / file.name)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        file.name for file in make_base(classifier()).iterdir()
    }


def test_weights_are_linked_and_the_rest_is_copied(classifier: Callable[..., RunConfig]) -> None:
    made = make_base(classifier())
    assert (made / "model.safetensors").samefile("tiny-bert/model.safetensors")
    assert not (made / "config.json").samefile("tiny-bert/config.json")


@pytest.mark.parametrize("stays", [True, False])
def test_where_no_hard_link_can_be_a_symbolic_one_will_do(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stays: bool
) -> None:
    """Another file system, or another owner; what MLflow fetched goes away and is copied."""

    def refused(*_: object) -> None:
        raise OSError

    monkeypatch.setattr("os.link", refused)
    bring_files(tiny_bert, tmp_path, FileHashes(tmp_path / "hashed.json"), stays)
    assert (tmp_path / "model.safetensors").is_symlink() == stays
    assert (tmp_path / "model.safetensors").read_bytes() == (tiny_bert / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer_config.json", "config.json"])
def test_a_changed_small_file_makes_the_base_anew(classifier: Callable[..., RunConfig], name: str) -> None:
    first = verify_release(make_base(classifier())).digest
    with Path("tiny-bert", name).open("a") as stream:
        stream.write("\n")
    assert verify_release(make_base(classifier())).digest != first


def test_a_weight_is_read_once_for_all_stages(
    classifier: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def hashed(path: Path) -> str:
        read.append(path.name)
        return sha256_of(path)

    monkeypatch.setattr("infra.files.hashes.sha256_of", hashed)
    monkeypatch.setattr("infra.files.hashes.SETTLED_SECONDS", 0.05)
    os.utime("tiny-bert/model.safetensors", (1, 1))
    time.sleep(0.1)
    for _ in range(3):
        make_base(classifier())
    assert read.count("model.safetensors") == 1


def test_a_link_in_the_base_that_leads_out_is_refused(classifier: Callable[..., RunConfig], tiny_gpt: Path) -> None:
    Path("tiny-bert/chat_template.jinja").unlink()
    Path("tiny-bert/chat_template.jinja").symlink_to(tiny_gpt / "chat_template.jinja")
    with pytest.raises(RefusedError, match="its real place is"):
        make_base(classifier())
