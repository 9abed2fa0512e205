"""DVC on a real S3 server: a release is shared by clones, and none of it lost when the server is killed."""

from __future__ import annotations

import json
import os

import pytest

from tests.support.clones import Bucket, Clone, bucket, clones, published
from tests.support.releases import content
from tests.support.stores import ACCESS_KEY, SECRET_KEY

__all__ = ["bucket", "clones"]
# An S3 server starts twice, and commands import DVC in processes of their own; on two busy cores that can take minutes.
pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800), pytest.mark.filterwarnings("ignore:_NoneStep.value")]


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
