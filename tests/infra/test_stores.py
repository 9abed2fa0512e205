"""MLflow on a real PostgreSQL with artifacts on a real S3 server, DVC on the same S3: shared by clones, and none of it lost when a server is killed."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import tunegate
from configs.errors import OutsideError
from configs.release import Manifest
from infra import mlflow_client, tracking
from infra.outbox import Outbox
from infra.sync import sync
from tests.infra.stores import ACCESS_KEY, SECRET_KEY, Server, Tap, files_at, mlflow, postgres, s3
from tests.infra.test_artifacts import content, make_run
from tests.infra.test_tracking import config

# Three servers start, MLflow's twice; on two busy cores that alone can take ten minutes.
pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800), pytest.mark.filterwarnings("ignore:_NoneStep.value")]
ROOT = Path(__file__).parents[2]
NO_MLFLOW = "http://127.0.0.1:1"
DEMO = "name: demo\ntask: causal-lm\nbase: {path: .dvc}\ndata: {source: files, files: [rows.jsonl]}\ntrain: {max_steps: 1}\ngate: .dvc/config\n"


@dataclass
class Bucket:
    """The S3 server of this module, behind a tap."""

    server: Server
    direct: str
    tap: Tap

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.tap.port}"

    def objects(self, folder: str) -> set[str]:
        return set(files_at(self.direct).find(folder))


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    with s3(tmp_path_factory.mktemp("s3"), "dvc", "mlflow") as (server, address):
        tap = Tap(int(address.rpartition(":")[2]))
        yield Bucket(server, address, tap)
        tap.close()


@dataclass
class Said:
    """What a command said: never a login, never a traceback."""

    returncode: int
    stdout: str
    stderr: str

    def __post_init__(self) -> None:
        assert SECRET_KEY not in self.stdout + self.stderr and "Traceback" not in self.stderr, self.stderr


@dataclass
class Clone:
    """A clone of the small repository, with the login to S3 in its environment and nowhere else."""

    folder: Path
    environment: dict[str, str]

    def apart(self, *arguments: str, **environment: str) -> Said:
        """The command line in a process of its own."""
        command, variables = [sys.executable, str(ROOT / "tunegate.py"), *arguments], dict(os.environ) | {"PYTHONPATH": str(ROOT)} | self.environment
        found = subprocess.run(command, cwd=self.folder, env=variables | environment, capture_output=True, text=True)
        return Said(found.returncode, found.stdout, found.stderr)

    def tunegate(self, *arguments: str, **environment: str) -> Said:
        """The whole front door in this process: a new one would import MLflow and DVC each time."""
        out, err, code = io.StringIO(), io.StringIO(), 0
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.chdir(self.folder)
            patch.setattr("sys.argv", ["tunegate", *arguments])
            for name, value in (self.environment | environment).items():
                patch.setenv(name, value)
            try:
                tunegate.main()
            except SystemExit as ended:
                code = int(ended.code or 0)
        return Said(code, out.getvalue(), err.getvalue())

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
        return subprocess.run(["git", *identity, *arguments], cwd=self.folder, capture_output=True, text=True, check=True).stdout.strip()

    def build(self, monkeypatch: pytest.MonkeyPatch, **facts: Any) -> Manifest:
        with monkeypatch.context() as patch:
            patch.chdir(self.folder)
            return make_run("demo", **facts)[1]

    def share(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", message)
        self.git("push", "-q", "origin", "HEAD")


@pytest.fixture
def clones(tmp_path: Path, bucket: Bucket) -> tuple[Clone, Clone]:
    """Two people's; the DVC remote of this test is a folder of the bucket."""
    variables = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_ENDPOINT_URL": bucket.address, "MLFLOW_TRACKING_URI": NO_MLFLOW}
    variables["AWS_MAX_ATTEMPTS"] = "1"  # a dead server is given up at once
    bare = tmp_path / "origin.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(bare)], check=True)
    found = []
    for name in ("one", "two"):
        folder = tmp_path / name
        subprocess.run(["git", "clone", "-q", str(bare), str(folder)], check=True, capture_output=True)
        found.append(Clone(folder, {"DVC_SITE_CACHE_DIR": str(tmp_path / f"site-{name}")} | variables))
    one, two = found
    for name in (".dvc/.gitignore", ".dvcignore", ".gitignore"):
        (one.folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, one.folder / name)
    (one.folder / ".dvc/config").write_text(
        f"[core]\n    remote = storage\n    analytics = false\n['remote \"storage\"']\n    url = s3://dvc/{tmp_path.name}\n"
    )
    (one.folder / "rows.jsonl").touch()
    (one.folder / "configs/finetune").mkdir(parents=True)
    (one.folder / "configs/finetune/demo.yaml").write_text(DEMO)
    one.git("checkout", "-qb", "main")
    one.share("A config")
    two.git("pull", "-q", "origin", "main")
    return one, two


def published(clone: Clone, manifest: Manifest) -> Path:
    return clone.folder / f"releases/demo@{manifest.digest[7:19]}"


def test_a_release_pushed_from_one_clone_is_pulled_and_verified_in_another(clones: tuple[Clone, Clone], monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = clones
    manifest = one.build(monkeypatch, weights=b"these very bytes")
    assert one.tunegate("releases", "publish", "configs/finetune/demo.yaml").returncode == 0
    one.share("Release demo")
    two.git("pull", "-q", "origin", "main")
    (row,) = json.loads(two.tunegate("releases", "list", "--json").stdout)
    assert (row["reference"], row["verdict"], row["here"], row["aliases"]) == (manifest.reference, "pass", False, None)
    assert two.apart("releases", "fetch", manifest.reference).returncode == 0
    assert two.tunegate("releases", "verify", str(published(two, manifest) / "release")).stdout.strip() == manifest.reference
    assert content(published(two, manifest)) == content(published(one, manifest))


def test_a_server_killed_in_the_middle_of_a_push_loses_nothing(clones: tuple[Clone, Clone], bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = clones
    place = f"dvc/{one.folder.parent.name}"
    manifest, size = one.build(monkeypatch), 512 * 1024
    for number in range(24):
        (one.folder / f"build/demo/eval/part-{number}.json").write_bytes(os.urandom(size))
    bucket.tap.after_bytes, bucket.tap.act = bucket.tap.passed + 6 * size, bucket.server.kill
    failed = one.tunegate("releases", "publish", "configs/finetune/demo.yaml")
    assert failed.returncode == 3 and "try:" in failed.stderr
    bucket.server.start()
    there, before = bucket.objects(place), bucket.tap.passed
    assert 0 < len(there) < 24, "killed neither before it began nor after it was done"
    again = one.tunegate("releases", "publish", "configs/finetune/demo.yaml")
    assert again.returncode == 0, again.stderr
    assert there < bucket.objects(place) and bucket.tap.passed - before < 24 * size, "what was there stayed, and was not sent again"
    one.share("Release demo")
    two.git("pull", "-q", "origin", "main")
    assert two.tunegate("releases", "fetch", manifest.reference).returncode == 0
    assert content(published(two, manifest)) == content(published(one, manifest))


def test_what_nobody_refers_to_leaves_the_bucket_and_can_leave_the_disk(clones: tuple[Clone, Clone], bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = clones
    place = f"dvc/{one.folder.parent.name}"
    for weights in (b"never committed", b"committed"):
        manifest = one.build(monkeypatch, weights=weights)
        assert one.tunegate("releases", "publish", "configs/finetune/demo.yaml").returncode == 0
        if weights == b"never committed":
            for path in one.folder.glob("releases/*.dvc"):
                path.unlink()
    one.share("Release demo")
    before = bucket.objects(place)
    told = json.loads(one.tunegate("releases", "prune", "--remote", "--json").stdout)
    assert bucket.objects(place) == before and told["would_remove"] == [published(one, manifest).name]
    done = json.loads(one.tunegate("releases", "prune", "--remote", "--yes", "--json").stdout)
    assert done["remote_objects_removed"] == told["remote_objects_that_would_go"] == len(before) - len(bucket.objects(place)) > 0
    assert one.tunegate("releases", "fetch", manifest.reference).returncode == 0


def test_a_wrong_login_is_an_outside_error_that_shows_none(clones: tuple[Clone, Clone], monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = clones
    one.build(monkeypatch)
    failed = one.apart("releases", "publish", "configs/finetune/demo.yaml", AWS_SECRET_ACCESS_KEY="not-the-password")
    assert failed.returncode == 3 and "DVC" in failed.stderr
    assert "not-the-password" not in failed.stdout + failed.stderr


def test_a_login_written_into_dvcs_config_is_refused(clones: tuple[Clone, Clone], monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = clones
    one.build(monkeypatch)
    with (one.folder / ".dvc/config").open("a") as file:
        file.write(f"    access_key_id = {ACCESS_KEY}\n    secret_access_key = {SECRET_KEY}\n")
    refused = one.tunegate("releases", "publish", "configs/finetune/demo.yaml")
    assert refused.returncode == 1 and "AWS_SECRET_ACCESS_KEY" in refused.stderr


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
        mlflow(tmp_path_factory.mktemp("mlflow"), database_address, "s3://mlflow/artifacts", bucket.direct) as (server, address),
    ):
        yield Stores(database, database_address, server, address)


@pytest.fixture
def here(tmp_path: Path, stores: Stores, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A client: it knows MLflow's address, and no login to S3 or to the database."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mlflow_client, "WARNED", set())
    monkeypatch.setattr(tracking, "SECONDS_BETWEEN_SAMPLES", 3600.0)
    monkeypatch.setattr(tracking, "SECONDS_BETWEEN_DELIVERIES", 0.0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", stores.address)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    return tmp_path


def steps_of(stores: Stores, run_id: str) -> list[int]:
    return [int(step) for (step,) in stores.rows(f"SELECT step FROM metrics WHERE run_uuid = '{run_id}' AND key = 'loss' ORDER BY step")]


def track(name: str, here: Path) -> tracking.Tracker:
    """A run that has been taken by MLflow, at its 40th step."""
    tracker = tracking.start_run(config(name), here / f"build/{name}/tracking")
    for step in range(1, 41):
        tracker.log_metrics({"loss": 1 / step}, step)
    assert tracker.run_id is not None
    return tracker


def complete(name: str) -> list[dict[str, Any]]:
    """As often as a pool of dead connections needs."""
    deadline = time.monotonic() + 120
    while True:
        try:
            return sync([name])
        except OutsideError:
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
    assert stores.rows(f"SELECT status FROM runs WHERE run_uuid = '{run_id}'") == [("FINISHED",)] and steps_of(stores, str(run_id)) == list(range(1, 41))
    assert [name for name in bucket.objects("mlflow") if name.endswith(f"{run_id}/artifacts/eval/metrics.json")]
    assert mlflow_client.download_model(f"runs:/{run_id}/eval", here / "down").exists()

    one.git("checkout", "-qb", "feature")
    manifest = one.build(monkeypatch)
    outbox = Outbox(one.folder / "build/demo/tracking")
    assert not outbox.run_id, "building anew took the record away"
    (one.folder / "build/demo/adapter").mkdir()
    (one.folder / "build/demo/adapter/training.json").write_text(json.dumps({"tracking_run_id": run_id}))
    assert one.tunegate("releases", "publish", "configs/finetune/demo.yaml", MLFLOW_TRACKING_URI=stores.address).returncode == 0
    assert stores.rows(f"SELECT run_id FROM model_versions WHERE name = 'demo' AND run_id = '{run_id}'") == [(run_id,)]
    (one.folder / "configs/deploy").mkdir()
    (one.folder / "configs/deploy/live.yaml").write_text(f"name: live\nmodel: m\nrelease: {manifest.reference}\ngate: null\nstate_dir: build/deploy/live\n")
    one.share("Deploy demo")
    one.git("checkout", "-q", "main")
    one.git("merge", "-q", "--no-ff", "feature", "-m", "Merge branch 'feature' into 'main'\n\nSee merge request ml/demo!12")
    one.git("push", "-q", "origin", "main")
    two.git("pull", "-q", "origin", "main")
    told = two.tunegate("trace", f"x-tunegate-release: {manifest.digest}", "--json", MLFLOW_TRACKING_URI=stores.address)
    links = {link["link"]: link for link in json.loads(told.stdout)["links"]}
    assert links["run"]["facts"]["url"].startswith(f"{stores.address}/#/experiments/") and links["run"]["facts"]["status"] == "FINISHED"
    assert (links["run"]["facts"]["aliases"], links["environment"]["facts"]) == (["candidate"], {"live": "pinned"})
    assert (links["merge request"]["facts"]["reference"], links["commit"]["facts"]["pinned_by"][0].split(": ")[1]) == ("ml/demo!12", "Deploy demo")


@pytest.mark.parametrize("victim", ["mlflow", "database"])
def test_a_server_killed_while_a_run_is_tracked_loses_nothing(stores: Stores, here: Path, victim: str, capsys: pytest.CaptureFixture[str]) -> None:
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
    assert done["run_id"] == tracker.outbox.run_id and steps_of(stores, done["run_id"]) == list(range(1, 81))
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
