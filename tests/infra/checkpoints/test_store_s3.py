"""The same promises of an S3 server, a real one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.errors import ExternalError
from infra.checkpoints.store import CheckpointStore
from tests.support.stores import ACCESS_KEY, SECRET_KEY, files_at, s3

pytestmark = pytest.mark.integration


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with s3(tmp_path / "s3", "kept") as (_, address):
        for name, value in {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_ENDPOINT_URL": address,
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        yield address


def test_whole_checkpoints_come_back_and_torn_ones_are_removed(tmp_path: Path, address: str) -> None:
    checkpoint = tmp_path / "checkpoint-4"
    (checkpoint / "optimizer_0").mkdir(parents=True)
    (checkpoint / "optimizer_0/0.distcp").write_bytes(b"moments")
    (checkpoint / "weights").write_bytes(b"w" * 3_000_000)
    (checkpoint / "empty").touch()
    store = CheckpointStore.open("s3://kept/checkpoints", "run", "k" * 64)
    for step in (4, 8, 12):
        store.put(checkpoint, step, 4, {"threads": 2})
        store.retain(step, 4, ("optimizer_0",))
    files_at(address).pipe_file(f"{store.root}/checkpoint-16/abcd/weights", b"half")
    assert CheckpointStore.open("s3://kept/checkpoints", "run", "k" * 64).clean() == ["checkpoint-16/abcd"]
    newest, best = store.manifests()
    assert (newest["step"], best["step"], best.get("weights_only")) == (12, 4, True)
    store.fetch(newest, tmp_path / "back")
    assert (tmp_path / "back/optimizer_0/0.distcp").read_bytes() == b"moments"
    assert (tmp_path / "back/weights").stat().st_size == 3_000_000 and (tmp_path / "back/empty").exists()
    store.remove()
    assert store.listed() == [] == [path for path in files_at(address).find("kept/checkpoints") if "run" in path]


def test_a_login_that_the_store_does_not_know_is_refused_before_any_training(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(ExternalError, match="s3://kept"):
        CheckpointStore.open("s3://kept/checkpoints", "run", "k" * 64)
