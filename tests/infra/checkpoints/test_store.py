"""What a manifest names is whole, what none names counts for nothing, whatever the instant of a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import ExternalError
from infra.checkpoints.store import CheckpointStore, DamagedError, parse_manifest

pytestmark = pytest.mark.unit
FILES = {
    "adapter_model.safetensors": b"weights",
    "optimizer.pt": b"moments" * 50,
    "optimizer_0/0.distcp": b"",
    "a b": b"1",
}
RESUMED_FROM = ("optimizer.pt", "optimizer_0")


def checkpoint(folder: Path, step: int, files: dict[str, bytes] | None = None) -> Path:
    made = folder / f"checkpoint-{step}"
    for name, content in (files or FILES).items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(content + str(step).encode())
    return made


def opened(folder: Path, key: str = "k" * 64) -> CheckpointStore:
    return CheckpointStore.open(str(folder / "store"), "run", key)


def stored_steps(store: CheckpointStore) -> list[int]:
    return [manifest["step"] for manifest in store.manifests()]


def test_what_was_put_comes_back_byte_for_byte(tmp_path: Path) -> None:
    store, facts = opened(tmp_path), {"key": "k", "threads": 3}
    store.put(checkpoint(tmp_path, 8), 8, 4, facts)
    (manifest,) = store.manifests()
    store.fetch(manifest, tmp_path / "back")
    assert (manifest["step"], manifest["best_step"], manifest["facts"]) == (8, 4, facts)
    assert {
        path.relative_to(tmp_path / "back").as_posix(): path.read_bytes()
        for path in (tmp_path / "back").rglob("*")
        if path.is_file()
    } == {name: content + b"8" for name, content in FILES.items()}


class Cut(Exception):
    """The process is gone."""


def cut_after(store: CheckpointStore, calls: int) -> CheckpointStore:
    """The same store, whose process is killed at its next write after so many."""
    left = [calls]

    class Files:
        protocol = store.files.protocol

        def __getattr__(self, name: str) -> Any:
            plain = getattr(store.files, name)
            if name not in ("put_file", "pipe_file", "rm", "rm_file"):
                return plain

            def counted(*given: Any, **named: Any) -> Any:
                if not left[0]:
                    raise Cut
                left[0] -= 1
                return plain(*given, **named)

            return counted

    return CheckpointStore(Files(), store.root, store.key, store.url)


@given(calls=st.integers(0, 12), best=st.sampled_from([None, 4, 8]))
def test_whatever_the_instant_of_a_kill_the_newest_manifest_verifies(
    tmp_path_factory: pytest.TempPathFactory, calls: int, best: int | None
) -> None:
    tmp_path = tmp_path_factory.mktemp("kill")
    store = opened(tmp_path)
    store.put(checkpoint(tmp_path, 4), 4, 4, {})
    killed, ended = cut_after(store, calls), True
    try:
        killed.put(checkpoint(tmp_path, 8), 8, best, {})
        killed.retain(8, best, RESUMED_FROM)
    except Cut:
        ended = False
    newest = store.manifests()[0]
    store.fetch(newest, tmp_path / "back")
    assert newest["step"] == (4 if calls < len(FILES) + 1 else 8)
    for manifest in store.manifests():
        if not manifest.get("weights_only"):
            continue
        store.fetch(manifest, tmp_path / "back")
    store.clean()
    named = {manifest["folder"] for manifest in store.manifests()}
    there = {"/".join(path.split("/")[:2]) for path in store.listed() if path.count("/") >= 2}
    assert there == named, "what is torn is gone"
    if ended:
        assert stored_steps(store) == ([8, 4] if best == 4 else [8])


@pytest.mark.parametrize("harm", ["cut", "other", "gone"])
def test_a_file_that_is_not_as_its_manifest_says_is_found_out(tmp_path: Path, harm: str) -> None:
    store = opened(tmp_path)
    store.put(checkpoint(tmp_path, 8), 8, None, {})
    (manifest,) = store.manifests()
    victim = Path(store.root, manifest["folder"], "optimizer.pt")
    content = victim.read_bytes()
    victim.unlink()
    if harm != "gone":
        victim.write_bytes(content[:-1] if harm == "cut" else content[:-1] + b"?")
    with pytest.raises(DamagedError, match=r"optimizer\.pt"):
        store.fetch(manifest, tmp_path / "back")


def test_a_checkpoint_of_another_config_is_not_seen_even_in_the_same_folder(tmp_path: Path) -> None:
    store = opened(tmp_path, "a" * 64)
    store.put(checkpoint(tmp_path, 8), 8, None, {})
    assert stored_steps(opened(tmp_path, "b" * 64)) == []
    same_folder = opened(tmp_path, "a" * 16 + "c" * 48)
    assert same_folder.root == store.root and stored_steps(same_folder) == []


def test_of_two_uploads_of_one_step_no_file_mixes(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.put(checkpoint(tmp_path, 8), 8, None, {})
    with pytest.raises(Cut):
        cut_after(store, 2).put(
            checkpoint(tmp_path / "again", 8, {"a b": b"2", "optimizer.pt": b"3", "z": b""}), 8, None, {}
        )
    (manifest,) = store.manifests()
    store.fetch(manifest, tmp_path / "back")
    assert (tmp_path / "back" / "a b").read_bytes() == b"18"
    assert len(store.clean()) == 1 and store.clean() == []


def test_of_the_best_one_the_weights_stay_and_of_a_finished_training_nothing(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for step in (4, 8, 12):
        store.put(checkpoint(tmp_path, step), step, 4, {})
        store.retain(step, 4, RESUMED_FROM)
    newest, best = store.manifests()
    assert (newest["step"], best["step"]) == (12, 4) and best.get("weights_only") and "weights_only" not in newest
    assert sorted(file["path"] for file in best["files"]) == ["a b", "adapter_model.safetensors"]
    assert sorted(path.name for path in Path(store.root, best["folder"]).iterdir() if path.is_file()) == [
        "a b",
        "adapter_model.safetensors",
    ]
    store.remove()
    assert not Path(store.root).exists()


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_whatever_is_read_as_a_manifest_is_one_or_none(found: Any) -> None:
    assert parse_manifest(json.dumps(found).encode()) is None


@pytest.mark.parametrize("path", ["../run.json", "/etc/passwd", "a/../../b"])
def test_a_manifest_that_names_a_file_outside_is_none(path: str) -> None:
    file = {"path": path, "size": 1, "sha256": "0"}
    whole = {"key": "k", "step": 1, "best_step": None, "folder": "f", "files": [file], "facts": {}}
    assert parse_manifest(json.dumps(whole).encode()) is None
    assert parse_manifest(json.dumps(whole | {"files": [file | {"path": "run.json"}]}).encode()) is not None


def test_a_store_that_cannot_be_written_is_refused_before_any_training(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    with pytest.raises(ExternalError, match="cannot be used"):
        opened(tmp_path)
    with pytest.raises(ExternalError, match="cannot be used"):
        CheckpointStore.open("nowhere://x", "run", "k")
