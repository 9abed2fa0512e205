"""By folds: each row is answered by the model that has not seen it, in one table under the release's name. The server
is a fake at the seam."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas
import pytest

from configs.environment.config import DeployConfig
from configs.errors import ExternalError, InputError
from configs.paths import RunPaths, fold_data
from configs.release import Manifest
from configs.run.config import RunConfig
from eval import evaluate
from eval.measure import references
from eval.rules.evidence import gather, held_out
from tests.support.measuring import RUN, MakeConfig, Server, WriteRelease, server, stored

__all__ = ["server"]
pytestmark = pytest.mark.unit
FOLDS = {"folds": 2}
HELD = {1: ["row-0", "row-2", "row-4"], 2: ["row-1", "row-3", "row-5"]}


class Trainer:
    """Stands for train.folds: writes a release of each fold, and counts how often it is asked to."""

    def __init__(self, write_release: WriteRelease) -> None:
        self.write_release, self.calls = write_release, 0
        self.made: dict[int, Manifest] = {}
        rows = pandas.read_parquet(RUN.data / "test.parquet")
        for number, held in HELD.items():
            fold_data(RUN.data, number).mkdir(parents=True, exist_ok=True)
            rows[rows["id"].isin(held)].to_parquet(fold_data(RUN.data, number) / "test.parquet")

    def __call__(self, config: RunConfig) -> None:
        self.calls += 1
        for number in HELD:
            paths, weights = RUN.fold(number), f"fold {number}".encode()
            self.made[number] = self.write_release(paths.release, name=f"run-fold-{number}", weights=weights)
            self.write_release(paths.parent, name=f"run-fold-{number}", weights=weights + b" unquantized")


def test_each_row_is_answered_by_the_model_that_has_not_seen_it(
    server: Server, config: MakeConfig, write_release: WriteRelease
) -> None:
    manifest, trainer = write_release(RUN.release), Trainer(write_release)
    record = evaluate.evaluate(config(evaluate=FOLDS), RUN, None, trainer)
    assert sorted(server.asked) == sorted((trainer.made[number].digest, one) for number in HELD for one in HELD[number])
    assert server.starts == [RUN.fold(1).release, RUN.fold(2).release, RUN.release], "its golden prompts are its own"
    assert (record["release"], record["n"], record["metrics"]["accuracy"]) == (manifest.reference, 6, 4 / 6)
    assert record["folds"] == {"releases": [trainer.made[number].reference for number in HELD], "rows": [3, 3]}
    frame = pandas.read_parquet(RUN.evaluation / "predictions.parquet")
    assert frame["fold"].tolist() == ["1", "2"] * 3 and frame["id"].tolist() == [f"row-{one}" for one in range(6)]
    told = held_out(gather(RUN, None))
    assert told is not None and told.folds == 2 and told.champion is None
    assert evaluate.evaluate(config(evaluate=FOLDS), RUN, None, trainer) == record
    assert trainer.calls == 1 and len(server.starts) == 3, "finished: nothing is trained, no server starts"


def test_a_killed_evaluation_goes_on_with_the_rows_that_nobody_answered(
    server: Server, config: MakeConfig, write_release: WriteRelease
) -> None:
    write_release(RUN.release)
    trainer, server.fails_after = Trainer(write_release), 4
    run = config(evaluate=FOLDS | {"concurrency": 1})
    with pytest.raises(ExternalError, match="killed"):
        evaluate.evaluate(run, RUN, None, trainer)
    server.fails_after = 100
    evaluate.evaluate(run, RUN, None, trainer)
    assert sorted(one for _, one in server.asked) == [f"row-{number}" for number in range(6)], "each once"
    assert server.starts[-2:] == [RUN.fold(2).release, RUN.release], "the first fold's rows were all answered"


def test_an_evaluation_of_the_release_itself_is_none_by_folds_and_the_other_way_round(
    server: Server, config: MakeConfig, write_release: WriteRelease
) -> None:
    manifest, trainer = write_release(RUN.release), Trainer(write_release)
    folded = evaluate.evaluate(config(evaluate=FOLDS), RUN, None, trainer)
    alone = evaluate.evaluate(config(), RUN)
    assert "folds" not in alone and alone["key"] != folded["key"]
    assert [digest for digest, _ in server.asked].count(manifest.digest) == 6
    assert "folds" in evaluate.evaluate(config(evaluate=FOLDS), RUN, None, trainer)


def test_the_parent_is_that_of_the_folds_too(server: Server, config: MakeConfig, write_release: WriteRelease) -> None:
    write_release(RUN.release)
    parent = write_release(RUN.parent, name="unquantized", weights=b"twice as large")
    base = write_release(Path("build/base/tiny"), name="tiny", weights=b"base")
    trainer = Trainer(write_release)
    record = evaluate.evaluate(config(evaluate=FOLDS | {"baseline": True}), RUN, None, trainer)
    theirs = stored(RUN.evaluation / "parent")
    assert theirs["release"] == parent.reference and len(theirs["folds"]["releases"]) == 2
    assert record["metrics"]["parent_agreement"] == 1
    assert "folds" not in stored(RUN.evaluation / "base"), "the base has seen no row"
    assert [digest for digest, _ in server.asked].count(base.digest) == 6
    assert evaluate.evaluate(config(evaluate=FOLDS | {"baseline": True}), RUN, None, trainer)["key"] == record["key"]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, write_release: WriteRelease) -> Any:
    """What serves is old@DIGEST, whose run lies here."""
    Path("gate.yaml").write_text("rules: [{rule: non_inferior_to, metric: accuracy, margin: 0.1}]")
    champion = write_release(Path("build/old/release"), name="old", weights=b"old")
    monkeypatch.setattr(references, "find", lambda reference: Path("build/old"))
    data = RunPaths.of("old").data
    data.mkdir(parents=True)
    rows = pandas.read_parquet(RUN.data / "test.parquet")
    rows[:4].to_parquet(data / "train.parquet")
    rows[:0].to_parquet(data / "validation.parquet")
    return DeployConfig.model_construct(name="local", model="m", release=champion.reference, release_gate=None)


def test_a_champion_that_was_trained_on_these_rows_is_named_as_such(
    server: Server, config: MakeConfig, write_release: WriteRelease, environment: Any
) -> None:
    write_release(RUN.release)
    record = evaluate.evaluate(config(evaluate=FOLDS), RUN, environment, Trainer(write_release))
    assert record["folds"]["champion_trained_on"] == 4 == stored()["folds"]["champion_trained_on"]
    told = held_out(gather(RUN, environment))
    assert told is not None and told.champion == "trained"
    assert "The champion was trained on 4 of these rows" in told.sentence()


def test_a_champion_that_was_evaluated_by_folds_of_these_rows_is_compared_by_those(
    server: Server, config: MakeConfig, write_release: WriteRelease, environment: Any
) -> None:
    old, trainer = RunPaths.of("old"), Trainer(write_release)
    for name in ("test.parquet", "data_card.json"):
        (old.data / name).write_bytes((RUN.data / name).read_bytes())
    for number in HELD:
        fold_data(old.data, number).mkdir(parents=True)
        rows = pandas.read_parquet(fold_data(RUN.data, number) / "test.parquet")
        rows.to_parquet(fold_data(old.data, number) / "test.parquet")
        write_release(old.fold(number).release, name=f"old-fold-{number}", weights=f"old {number}".encode())
    evaluate.evaluate(config(name="old", evaluate=FOLDS), old, None, lambda run: None)
    write_release(RUN.release)
    asked = len(server.asked)
    evaluate.evaluate(config(evaluate=FOLDS), RUN, environment, trainer)
    assert len(server.asked) == asked + 6, "the champion is not asked again"
    assert stored(RUN.evaluation / "champion")["folds"]["releases"][0].startswith("old-fold-1@")
    told = held_out(gather(RUN, environment))
    assert told is not None and told.champion == "held out" and "estimated likewise" in told.sentence()


def test_without_the_front_door_nobody_trains_them(
    server: Server, config: MakeConfig, write_release: WriteRelease
) -> None:
    write_release(RUN.release)
    with pytest.raises(InputError, match=r"nobody trains evaluate.folds"):
        evaluate.evaluate(config(evaluate=FOLDS), RUN)
