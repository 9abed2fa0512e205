"""After the merge: what a pipeline of a merge request left is published if it is what the merged pointer says, byte for
byte, and nothing else ever is."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.environment.signing import Signing
from configs.errors import ExternalError, InputError, RefusedError, TunegateError
from infra.dvc import releases
from infra.dvc.publish import prepare_pin
from infra.dvc.releases import PIPELINE, pointer_of
from infra.dvc.remote import in_remote
from infra.gitlab import publish as publishing
from infra.gitlab.api import GitLab
from infra.gitlab.publish import pinned, publish_pinned
from infra.mlflow.outbox import Outbox
from infra.mlflow.registry import registered
from infra.mlflow.sync import sync
from infra.signing import KEY
from tests.infra.test_signing import make_pair
from tests.support.gitlab_pipelines import archive_with
from tests.support.gitlab_server import gitlab_server
from tests.support.gitlab_world import TOKEN, World
from tests.support.releases import Killed, checkout, content, make_run

__all__ = ["checkout"]
pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore:_NoneStep.value")]  # the warning is inside DVC
Files = dict[str, bytes]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody is there: a warning
    monkeypatch.delenv(KEY, raising=False)
    with gitlab_server() as found:
        yield found


def gitlab_of(world: World) -> GitLab:
    return GitLab(world.url, "35", TOKEN, first_pause_seconds=0.01)


@pytest.fixture
def merged(checkout: Path, world: World) -> tuple[str, Path, int]:
    """A pin as the default branch has it, and its pipeline's artifacts; its bytes are nowhere else. The reference, its
    folder, the pipeline."""
    paths, manifest = make_run()
    pipeline = world.add_pipeline("a" * 40)
    target = prepare_pin(paths, None, {PIPELINE: pipeline})
    files = {f"build/demo/{name}": bytes_ for name, bytes_ in content(paths.root).items()}
    world.add_job(pipeline, "train demo", {name: one for name, one in files.items() if "/release/" in name})
    pin = {f"{target}/{name}": one for name, one in content(target).items() if not name.startswith("release/")}
    world.add_job(pipeline, "pin demo", pin)
    for folder in (target, Path(".dvc/cache"), paths.root):
        shutil.rmtree(folder)
    Path("configs/deploy").mkdir(parents=True)
    Path("configs/deploy/local.yaml").write_text(f"name: local\nrelease: {manifest.reference}  # by digest\n")
    return manifest.reference, target, pipeline


def artifacts(world: World, name: str) -> tuple[int, Files]:
    """The job of this name, and what its archive holds."""
    job = next(int(job["id"]) for job in world.jobs if job["name"] == name)
    with zipfile.ZipFile(io.BytesIO(world.archives[job])) as archive:
        return job, {one: archive.read(one) for one in archive.namelist()}


def replace(world: World, job: int, files: Files) -> None:
    world.archives[job] = archive_with(files)


def test_what_is_pinned_comes_from_its_pipeline_into_the_remote(world: World, merged: tuple[str, Path, int]) -> None:
    reference, target, _ = merged
    pointer = pointer_of(target).read_bytes()
    assert publish_pinned(gitlab_of(world), pinned()) == {reference: "published"}
    for folder in (target, Path(".dvc/cache")):
        shutil.rmtree(folder)
    assert releases.find(reference) == target
    assert pointer_of(target).read_bytes() == pointer, "the pin stays what was reviewed"
    assert not list(Path().glob(".artifacts-*"))


def test_a_second_run_asks_gitlab_for_nothing(world: World, merged: tuple[str, Path, int]) -> None:
    reference = merged[0]
    publish_pinned(gitlab_of(world), pinned())
    world.requests.clear()
    assert publish_pinned(None, pinned()) == {reference: "nothing to do: the DVC remote has it"}
    assert world.requests == []


def test_it_is_signed_where_the_default_branch_has_the_key(
    checkout: Path, world: World, merged: tuple[str, Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, target, _ = merged
    pair = make_pair(checkout)
    monkeypatch.setenv(KEY, str(pair.private))
    assert publish_pinned(gitlab_of(world), pinned()) == {reference: "published and signed"}
    shutil.rmtree(target)
    assert releases.find_trusted(reference, Signing(public_key=pair.public.read_text())) == target
    assert {path.name for path in target.glob("*.sig")} == {"model.sig", "gate.sig", "eval.sig"}


def test_what_was_published_unsigned_is_signed_later(
    checkout: Path, world: World, merged: tuple[str, Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, target, _ = merged
    publish_pinned(gitlab_of(world), pinned())
    pair = make_pair(checkout)
    monkeypatch.setenv(KEY, str(pair.private))
    assert publish_pinned(None, pinned()) == {reference: "signed"}
    assert publish_pinned(None, pinned()) == {reference: "nothing to do: the DVC remote has it"}
    assert releases.find_trusted(reference, Signing(public_key=pair.public.read_text())) == target


@pytest.mark.parametrize("forged", ["weights", "verdict", "evaluation", "another file", "no verdict", "no release"])
def test_artifacts_that_are_not_what_was_merged_are_refused_and_leave_nothing(
    world: World, merged: tuple[str, Path, int], forged: str
) -> None:
    _, target, _ = merged
    job, files = artifacts(world, "train demo" if forged in ("weights", "no release") else "pin demo")
    release = "build/demo/release/model.safetensors"
    changed: Files = {
        "weights": files | {release: b"wEights"},
        "verdict": files | {f"{target}/gate/verdict.json": files.get(f"{target}/gate/verdict.json", b"") + b" "},
        "evaluation": files | {f"{target}/eval/metrics.json": b'{"metrics": {"accuracy": 1}}'},
        "another file": files | {f"{target}/gate/more.json": b"{}"},
        "no verdict": {name: one for name, one in files.items() if "/gate/" not in name},
        "no release": {name: one for name, one in files.items() if "/release/" not in name},
    }[forged]
    replace(world, job, changed or {"build/none": b""})
    with pytest.raises(TunegateError) as refused:
        publish_pinned(gitlab_of(world), pinned())
    assert isinstance(refused.value, RefusedError)
    assert in_remote([target]) == set() and not target.exists()
    assert not list(Path("stores/dvc").glob("signatures/*"))


def test_a_signature_by_the_merge_requests_own_code_is_thrown_away(
    checkout: Path, world: World, merged: tuple[str, Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, target, _ = merged
    job, files = artifacts(world, "pin demo")
    replace(world, job, files | {f"{target}/{name}.sig": b"forged" for name in ("model", "gate", "eval")})
    pair = make_pair(checkout)
    monkeypatch.setenv(KEY, str(pair.private))
    publish_pinned(gitlab_of(world), pinned())
    shutil.rmtree(target)
    assert releases.find_trusted(reference, Signing(public_key=pair.public.read_text())) == target


@pytest.mark.parametrize(
    "name", ["../escaped", "/tmp/tunegate-escaped", "configs/deploy/local.yaml", "Makefile", "build/other/release/x"]
)
def test_nothing_but_what_was_pinned_comes_into_the_checkout(
    checkout: Path, world: World, merged: tuple[str, Path, int], name: str
) -> None:
    before = {path for path in checkout.parent.rglob("*") if ".git" not in path.parts}
    yaml = Path("configs/deploy/local.yaml").read_bytes()
    for kind in ("train demo", "pin demo"):
        job, files = artifacts(world, kind)
        replace(world, job, files | {name: b"mine"})
    publish_pinned(gitlab_of(world), pinned())
    after = {path for path in checkout.parent.rglob("*") if ".git" not in path.parts}
    new = {path.relative_to(checkout).parts[0] for path in after - before}
    assert new <= {"releases", "stores", ".dvc"} and Path("configs/deploy/local.yaml").read_bytes() == yaml
    assert not Path("/tmp/tunegate-escaped").exists()


def test_an_archive_that_is_none_is_refused(world: World, merged: tuple[str, Path, int]) -> None:
    job, _ = artifacts(world, "train demo")
    world.archives[job] = b"<html>sign in</html>"
    with pytest.raises(RefusedError, match="no archive"):
        publish_pinned(gitlab_of(world), pinned())


@pytest.mark.parametrize("gone", ["archive", "job", "failed job"])
def test_artifacts_that_have_expired_are_an_error_with_the_command_that_helps(
    world: World, merged: tuple[str, Path, int], gone: str
) -> None:
    job, _ = artifacts(world, "train demo")
    if gone == "archive":
        del world.archives[job]
    elif gone == "job":
        world.jobs = [one for one in world.jobs if one["id"] != job]
    else:
        next(one for one in world.jobs if one["id"] == job)["status"] = "failed"
    with pytest.raises(InputError, match=r"train demo|artifacts are gone") as error:
        publish_pinned(gitlab_of(world), pinned())
    assert "tunegate releases publish" in str(error.value)


def test_of_a_job_that_was_retried_the_newer_one_counts(world: World, merged: tuple[str, Path, int]) -> None:
    reference, _, pipeline = merged
    _, files = artifacts(world, "train demo")
    world.add_job(pipeline, "train demo", files)
    replace(world, int(world.jobs[0]["id"]), {"build/none": b""})
    assert publish_pinned(gitlab_of(world), pinned()) == {reference: "published"}


def test_a_pin_by_hand_whose_bytes_are_nowhere_says_where_to_publish_it(
    world: World, merged: tuple[str, Path, int]
) -> None:
    _, target, pipeline = merged
    pointer = pointer_of(target)
    pointer.write_text(pointer.read_text().replace(f"  pipeline: {pipeline}\n", ""))
    with pytest.raises(InputError, match="names no pipeline"):
        publish_pinned(gitlab_of(world), pinned())
    pointer.unlink()
    with pytest.raises(InputError, match="is not in git"):
        publish_pinned(gitlab_of(world), pinned())


def test_without_a_token_it_says_what_is_missing(world: World, merged: tuple[str, Path, int]) -> None:
    with pytest.raises(InputError, match="TUNEGATE_GITLAB_TOKEN"):
        publish_pinned(None, pinned())


@pytest.mark.parametrize("step", ["place", "push_stages", "deliver", "sign_target", "send", "register"])
def test_killed_at_any_step_the_next_run_ends_as_if_it_had_not_been(
    checkout: Path, world: World, merged: tuple[str, Path, int], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    reference, target, _ = merged
    pair = make_pair(checkout)
    monkeypatch.setenv(KEY, str(pair.private))
    with monkeypatch.context() as patched:

        def killed(*arguments: object, **named: object) -> None:
            raise Killed

        patched.setattr(publishing, step, killed)
        with pytest.raises(Killed):
            publish_pinned(gitlab_of(world), pinned())
    publish_pinned(gitlab_of(world), pinned())
    for folder in (target, Path(".dvc/cache")):
        shutil.rmtree(folder)
    assert releases.find_trusted(reference, Signing(public_key=pair.public.read_text())) == target


def test_mlflow_gets_the_training_and_the_release_and_once_it_answers_what_it_missed(
    checkout: Path, world: World, merged: tuple[str, Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The merge request's training wrote to an outbox alone: it has no login."""
    reference, _, _ = merged
    outbox = Outbox(checkout / "elsewhere")
    start = {"key": "k", "id": "1", "git_revision": "x", "experiment": "demo", "name": "demo"}
    outbox.append({"start": start}, {"step": 1, "metrics": {"loss": 0.5}}, {"status": "FINISHED"})
    job, files = artifacts(world, "train demo")
    record = {"build/demo/tracking/metrics.jsonl": outbox.record.read_bytes()}
    replace(world, job, files | record)
    publish_pinned(gitlab_of(world), pinned())
    assert Outbox(Path("build/demo/tracking")).run_id is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{checkout}/mlflow.db")
    sync(["demo"])
    publish_pinned(None, pinned())
    known = registered(["demo"])
    assert known is not None
    assert known[reference.partition("@")[2]].run_id == Outbox(Path("build/demo/tracking")).run_id is not None


@pytest.mark.parametrize("line", [{"artifacts": "/etc"}, {"start": {"parent": "/elsewhere", "key": "k"}}])
def test_a_training_record_of_a_merge_request_names_no_file_of_the_machine_that_publishes(
    checkout: Path, line: dict[str, object]
) -> None:
    outbox = Outbox(checkout / "elsewhere")
    outbox.append(line, {"step": 1, "metrics": {"loss": 0.5}})
    publishing.deliver("demo", outbox.folder)
    (kept,) = (one for one, _ in Outbox(Path("build/demo/tracking")).lines())
    assert kept["metrics"] == {"loss": 0.5}


def test_a_server_that_fails_for_a_while_is_asked_again(world: World, merged: tuple[str, Path, int]) -> None:
    reference = merged[0]
    world.fail("GET", r"/artifacts$", status=502)
    world.fail("GET", r"/jobs$", status=429)
    assert publish_pinned(gitlab_of(world), pinned()) == {reference: "published"}
    shutil.rmtree("stores/dvc")
    world.fail("GET", r"/artifacts$", status=503, times=9)
    with pytest.raises(ExternalError, match="the artifacts of job"):
        publish_pinned(gitlab_of(world), pinned())


def test_only_releases_that_an_environment_pins_are_asked_for(checkout: Path) -> None:
    folder = Path("configs/deploy")
    folder.mkdir(parents=True)
    one = f"demo@sha256:{'1' * 64}"
    for name, release in (("a", one), ("b", one), ("c", "null"), ("d", f"other@sha256:{'2' * 64}")):
        (folder / f"{name}.yaml").write_text(f"name: {name}\nrelease: {release}\n")
    assert pinned() == [one, f"other@sha256:{'2' * 64}"]
    with pytest.raises(InputError, match="found as a pin"):
        publish_pinned(None, ["latest"])
