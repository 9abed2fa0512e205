"""A checkpoint goes up beside the training, whatever becomes of it locally meanwhile."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from infra.checkpoints import uploads as module
from infra.checkpoints.store import CheckpointStore
from infra.checkpoints.uploads import Uploads

pytestmark = pytest.mark.unit


def checkpoint(folder: Path, step: int) -> Path:
    made = folder / f"checkpoint-{step}"
    made.mkdir(parents=True)
    (made / "weights").write_text(f"of {step}")
    (made / "complete").touch()
    return made


class Slow(CheckpointStore):
    """Sends nothing until it is let."""

    gate = threading.Event()

    def put(self, checkpoint: Path, step: int, best_step: int | None, facts: dict[str, Any]) -> None:
        assert self.gate.wait(60)
        super().put(checkpoint, step, best_step, facts)


@pytest.fixture
def slow(tmp_path: Path) -> Slow:
    Slow.gate = threading.Event()
    made = Slow.open(str(tmp_path / "store"), "run", "k" * 64)
    assert isinstance(made, Slow)
    return made


def test_of_those_that_wait_the_newest_and_the_best_go_up(tmp_path: Path, slow: Slow) -> None:
    uploads = Uploads(slow, ())
    for step, best in ((2, 2), (4, 4), (6, 4), (8, 4), (10, 4)):
        made = checkpoint(tmp_path, step)
        uploads.add(made, step, best, {})
        shutil.rmtree(made)  # what the training may do at any time
        assert step > 2 or (uploads.changed and wait_until_begun(uploads))
    slow.gate.set()
    assert uploads.wait(60)
    assert [manifest["step"] for manifest in slow.manifests()] == [10, 4]
    slow.fetch(slow.manifests()[0], tmp_path / "back")
    assert [path.name for path in (tmp_path / "back").iterdir()] == ["weights"], "the local mark is no part of it"
    assert (tmp_path / "back" / "weights").read_text() == "of 10" and not list(tmp_path.glob(".upload-*"))


def wait_until_begun(uploads: Uploads) -> bool:
    with uploads.changed:
        return uploads.changed.wait_for(lambda: not uploads.waiting, 60)


def test_a_training_that_is_finished_waits_for_none_that_has_not_begun(tmp_path: Path, slow: Slow) -> None:
    uploads = Uploads(slow, ())
    uploads.add(checkpoint(tmp_path, 2), 2, None, {})
    wait_until_begun(uploads)
    uploads.add(checkpoint(tmp_path, 4), 4, None, {})
    threading.Timer(0.2, slow.gate.set).start()
    uploads.stop()
    assert [manifest["step"] for manifest in slow.manifests()] == [2]


def test_a_store_that_fails_is_said_and_the_next_checkpoint_goes_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT_SECONDS", 0.001)
    store, said = CheckpointStore.open(str(tmp_path / "store"), "run", "k" * 64), list[str]()
    shutil.rmtree(store.root)
    Path(store.root).write_text("no folder")
    uploads = Uploads(store, (), said.append)
    uploads.add(checkpoint(tmp_path, 2), 2, None, {})
    assert uploads.wait(60) and len(said) == 1 and said[0].startswith("checkpoint 2 is not in ")
    Path(store.root).unlink()
    uploads.add(checkpoint(tmp_path, 4), 4, None, {})
    assert uploads.wait(60) and [manifest["step"] for manifest in store.manifests()] == [4] and len(said) == 1
