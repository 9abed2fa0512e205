"""Whatever the instant of a kill: what is marked is whole, and what is not marked never counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.loop.checkpoints import (
    COMPLETE,
    complete_checkpoint,
    last_checkpoint,
    open_run,
    remember,
    step_of,
    whole_checkpoints,
)

pytestmark = pytest.mark.unit


def checkpoint(folder: Path, step: int, complete: bool = True) -> Path:
    made = folder / f"checkpoint-{step}"
    made.mkdir(parents=True)
    (made / "optimizer.pt").touch()
    if complete:
        (made / COMPLETE).touch()
    return made


def test_the_newest_whole_checkpoint_is_taken_and_a_torn_one_thrown_away(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path) is None
    checkpoint(tmp_path, 8)
    newest, torn = checkpoint(tmp_path, 16), checkpoint(tmp_path, 24, complete=False)
    assert last_checkpoint(tmp_path) == newest, "by number, not by name: 16 is after 8"
    assert not torn.exists()


def test_a_run_goes_on_with_its_facts_and_another_one_starts_afresh(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    facts = open_run(folder, {"key": "one", "threads": 2, "micro_batch": 8})
    remember(folder, {**facts, "micro_batch": 4})
    kept = checkpoint(folder, 8)
    assert (
        open_run(folder, {"key": "one", "threads": 9, "micro_batch": 8})
        == {"key": "one", "threads": 2, "micro_batch": 4}
        and kept.exists()
    )
    assert (
        open_run(folder, {"key": "two", "threads": 9, "micro_batch": 8})
        == {"key": "two", "threads": 9, "micro_batch": 8}
        and not kept.exists()
    )


def test_a_torn_record_of_facts_starts_afresh(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    open_run(folder, {"key": "one", "threads": 2, "micro_batch": 8})
    (folder / "run.json").write_text('{"key": "on')
    kept = checkpoint(folder, 8)
    assert open_run(folder, {"key": "one", "threads": 3, "micro_batch": 8})["threads"] == 3 and not kept.exists()


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8, unique=True), st.data())
def test_the_newest_and_the_best_one_stay_and_only_the_newest_holds_what_going_on_needs(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], data: st.DataObject
) -> None:
    folder, best = tmp_path_factory.mktemp("checkpoints"), data.draw(st.sampled_from(steps))
    for step in sorted(steps):
        checkpoint(folder, step, complete=False)
        complete_checkpoint(folder, step, best if step >= best else None)
    assert [step_of(path) for path in whole_checkpoints(folder)] == sorted({best, max(steps)})
    assert [path.parent.name for path in folder.glob("*/optimizer.pt")] == [f"checkpoint-{max(steps)}"]
    assert last_checkpoint(folder) == folder / f"checkpoint-{max(steps)}"


def test_the_best_checkpoint_outlives_newer_ones(tmp_path: Path) -> None:
    for step in (2, 4, 6, 8):
        checkpoint(tmp_path, step, complete=False)
        complete_checkpoint(tmp_path, step, best_step=2)
    assert [step_of(path) for path in whole_checkpoints(tmp_path)] == [2, 8] and not (
        tmp_path / "checkpoint-4"
    ).exists()


def test_killed_while_an_old_checkpoint_is_thrown_away_what_is_left_of_it_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (2, 4, 6):
        checkpoint(tmp_path, step, complete=step != 6)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            complete_checkpoint(tmp_path, 6, best_step=4)
    assert (tmp_path / "checkpoint-2").exists() and last_checkpoint(tmp_path) == tmp_path / "checkpoint-6"
    assert not (tmp_path / "checkpoint-2").exists(), "thrown away at last"


def test_of_the_best_checkpoint_a_sharded_optimizer_goes_and_the_sharded_weights_stay(tmp_path: Path) -> None:
    for step in (2, 4):
        made = checkpoint(tmp_path, step)
        for name in ("pytorch_model_fsdp_0", "optimizer_0"):
            (made / name).mkdir()
            (made / name / "__0_0.distcp").touch()
    complete_checkpoint(tmp_path, 4, best_step=2)
    assert sorted(path.name for path in (tmp_path / "checkpoint-2").iterdir()) == [COMPLETE, "pytorch_model_fsdp_0"]
    assert (tmp_path / "checkpoint-4" / "optimizer_0" / "__0_0.distcp").exists()
