"""MLflow on a real PostgreSQL with artifacts on a real S3 server: none of it is lost when a server is killed, and the
chain leads back."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from configs.errors import ExternalError
from infra.mlflow import client, tracking
from infra.mlflow.outbox import Outbox
from infra.mlflow.sync import Synced, sync
from tests.support.clones import Bucket, Clone, bucket, clones
from tests.support.mlflow_store import config
from tests.support.stores import SECRET_KEY, Server, mlflow, postgres

__all__ = ["bucket", "clones"]
# Three servers start, MLflow's twice; on two busy cores that alone can take ten minutes.
pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800), pytest.mark.filterwarnings("ignore:_NoneStep.value")]


@dataclass
class Stores:
    """All three servers."""

    database: Server
    database_address: str
    mlflow: Server
    address: str

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Asked of PostgreSQL itself."""
        import psycopg2

        connection = psycopg2.connect(self.database_address.replace("+psycopg2", ""))
        try:
            with connection.cursor() as cursor:
                cursor.execute(query)
                return list(cursor.fetchall())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def stores(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with (
        postgres() as (database, database_address),
        mlflow(tmp_path_factory.mktemp("mlflow"), database_address, "s3://mlflow/artifacts", bucket.direct) as (
            server,
            address,
        ),
    ):
        yield Stores(database, database_address, server, address)


@pytest.fixture
def here(tmp_path: Path, stores: Stores, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A client: it knows MLflow's address, and no login to S3 or to the database."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(client, "WARNED", set())
    monkeypatch.setattr(tracking, "SECONDS_BETWEEN_SAMPLES", 3600.0)
    monkeypatch.setattr(tracking, "SECONDS_BETWEEN_DELIVERIES", 0.0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", stores.address)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    return tmp_path


def steps_of(stores: Stores, run_id: str) -> list[int]:
    return [
        int(step)
        for (step,) in stores.rows(
            f"SELECT step FROM metrics WHERE run_uuid = '{run_id}' AND key = 'loss' ORDER BY step"
        )
    ]


def track(name: str, here: Path) -> tracking.Tracker:
    """A run that has been taken by MLflow, at its 40th step."""
    tracker = tracking.start_run(config(name), here / f"build/{name}/tracking")
    for step in range(1, 41):
        tracker.log_metrics({"loss": 1 / step}, step)
    assert tracker.run_id is not None
    return tracker


def complete(name: str) -> list[Synced]:
    """As often as a pool of dead connections needs."""
    deadline = time.monotonic() + 120
    while True:
        try:
            return sync([name])
        except ExternalError:
            assert time.monotonic() < deadline
            time.sleep(1)


def test_the_chain_from_an_answer_to_the_merge_request_over_real_stores(
    stores: Stores, bucket: Bucket, clones: tuple[Clone, Clone], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records on PostgreSQL, artifacts and bytes on S3, the version registered; traced in a clone that has no bytes."""
    one, two = clones
    tracker = track("demo", one.folder)
    (here / "eval").mkdir()
    (here / "eval/metrics.json").write_text('{"exact_match": 0.5}')
    tracker.log_artifacts(here / "eval")
    tracker.finish()
    run_id = tracker.run_id
    assert stores.rows(f"SELECT status FROM runs WHERE run_uuid = '{run_id}'") == [("FINISHED",)] and steps_of(
        stores, str(run_id)
    ) == list(range(1, 41))
    assert [name for name in bucket.objects("mlflow") if name.endswith(f"{run_id}/artifacts/eval/metrics.json")]
    assert client.download_model(f"runs:/{run_id}/eval", here / "down").exists()

    one.git("checkout", "-qb", "feature")
    manifest = one.build(monkeypatch)
    outbox = Outbox(one.folder / "build/demo/tracking")
    assert not outbox.run_id, "building anew took the record away"
    (one.folder / "build/demo/trained").mkdir()
    (one.folder / "build/demo/trained/training.json").write_text(json.dumps({"tracking_run_id": run_id}))
    assert (
        one.tunegate("releases", "publish", "configs/finetune/demo.yaml", MLFLOW_TRACKING_URI=stores.address).returncode
        == 0
    )
    assert stores.rows(f"SELECT run_id FROM model_versions WHERE name = 'demo' AND run_id = '{run_id}'") == [(run_id,)]
    (one.folder / "configs/deploy").mkdir()
    (one.folder / "configs/deploy/live.yaml").write_text(
        f"name: live\nmodel: m\nrelease: {manifest.reference}\ngate: null\nstate_dir: build/deploy/live\n"
    )
    one.share("Deploy demo")
    one.git("checkout", "-q", "main")
    one.git(
        "merge", "-q", "--no-ff", "feature", "-m", "Merge branch 'feature' into 'main'\n\nSee merge request ml/demo!12"
    )
    one.git("push", "-q", "origin", "main")
    two.git("pull", "-q", "origin", "main")
    told = two.tunegate("trace", f"x-tunegate-release: {manifest.digest}", "--json", MLFLOW_TRACKING_URI=stores.address)
    links = {link["link"]: link for link in json.loads(told.stdout)["links"]}
    assert (
        links["run"]["facts"]["url"].startswith(f"{stores.address}/#/experiments/")
        and links["run"]["facts"]["status"] == "FINISHED"
    )
    assert (links["run"]["facts"]["aliases"], links["environment"]["facts"]) == (["candidate"], {"live": "pinned"})
    assert (links["merge request"]["facts"]["reference"], links["commit"]["facts"]["pinned_by"][0].split(": ")[1]) == (
        "ml/demo!12",
        "Deploy demo",
    )


@pytest.mark.parametrize("victim", ["mlflow", "database"])
def test_a_server_killed_while_a_run_is_tracked_loses_nothing(
    stores: Stores, here: Path, victim: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker, server = track(victim, here), getattr(stores, victim)
    server.kill()
    for step in range(41, 81):
        tracker.log_metrics({"loss": 1 / step}, step)
    tracker.finish()
    said = capsys.readouterr().err
    assert "warning: MLflow" in said and SECRET_KEY not in said
    assert len(list(tracker.outbox.left())) > 0
    server.start()
    (done,) = complete(victim)
    assert done["run_id"] == tracker.outbox.run_id and steps_of(stores, str(done["run_id"])) == list(range(1, 81))
    assert stores.rows(f"SELECT status FROM runs WHERE run_uuid = '{done['run_id']}'") == [("FINISHED",)]
    assert list(tracker.outbox.left()) == []


def test_s3_killed_while_artifacts_are_sent_loses_nothing(stores: Stores, bucket: Bucket, here: Path) -> None:
    tracker = track("artifacts", here)
    (here / "eval").mkdir()
    (here / "eval/metrics.json").write_text("{}")
    bucket.server.kill()
    tracker.log_artifacts(here / "eval")
    tracker.finish()
    bucket.server.start()
    (done,) = complete("artifacts")
    assert [name for name in bucket.objects("mlflow") if name.endswith(f"{done['run_id']}/artifacts/eval/metrics.json")]
    assert stores.rows(f"SELECT status FROM runs WHERE run_uuid = '{done['run_id']}'") == [("FINISHED",)]
