"""Publishing with a key: signatures lie in the remote beside the bytes, are made once for a key, and change no
pointer."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from configs.environment.signing import Signing
from configs.errors import InputError, RefusedError
from configs.paths import RunPaths
from infra.dvc import releases
from infra.dvc.publish import publish, sign_published
from infra.dvc.releases import pointer_of
from infra.dvc.signatures import bring_signatures
from infra.signing import KEY, verify_signature
from tests.infra.test_signing import Pair, make_pair
from tests.support.judging import bound_verdict
from tests.support.releases import checkout, content, make_run

__all__ = ["checkout"]
pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore:_NoneStep.value")]  # the warning is inside DVC


@pytest.fixture
def pair(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """The publisher's keys; publishing signs from here on."""
    made = make_pair(checkout)
    monkeypatch.setenv(KEY, str(made.private))
    return made


@pytest.mark.parametrize("fetched", ["once", "again"])
def test_publishing_signs_and_the_signatures_come_with_the_bytes(checkout: Path, pair: Pair, fetched: str) -> None:
    paths, manifest = make_run()
    target = publish(paths)
    for folder in (target, Path(".dvc/cache"), paths.root):
        shutil.rmtree(folder)
    if fetched == "again":
        releases.fetch(manifest.reference)
    assert releases.find_trusted(manifest.reference, Signing(public_key=pair.public.read_text())) == target
    assert set(content(target)) == {
        "release/model.safetensors",
        "release/manifest.json",
        "eval/metrics.json",
        "eval/base/metrics.json",
        "gate/verdict.json",
        "lineage.json",
        "model.sig",
        "gate.sig",
        "eval.sig",
    }


def test_without_a_key_nothing_is_signed_and_only_who_asks_for_a_signature_misses_it(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY, raising=False)
    paths, manifest = make_run()
    target = publish(paths)
    assert releases.find_trusted(manifest.reference, None) == target
    with pytest.raises(RefusedError, match=r"found no .*model\.sig"):
        releases.find_trusted(manifest.reference, Signing(public_key=make_pair(checkout).public.read_text()))


def test_a_signature_changes_nothing_that_git_says_of_a_release(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A merge request pins it unsigned; it is signed when the merge request is in."""
    monkeypatch.delenv(KEY, raising=False)
    paths, manifest = make_run()
    target = publish(paths)
    pointer = pointer_of(target).read_bytes()
    made = make_pair(checkout)
    sign_published(manifest.reference, made.private)
    assert pointer_of(target).read_bytes() == pointer
    monkeypatch.setenv(KEY, str(made.private))
    publish(paths)
    assert pointer_of(target).read_bytes() == pointer
    releases.fetch(manifest.reference)
    assert releases.find_trusted(manifest.reference, Signing(public_key=made.public.read_text())) == target


def test_a_clone_that_has_the_bytes_finds_the_signature_that_came_later(checkout: Path, pair: Pair) -> None:
    paths, manifest = make_run()
    target = publish(paths)
    signing = Signing(public_key=pair.public.read_text())
    for path in target.glob("*.sig"):
        path.unlink()
    assert releases.find_trusted(manifest.reference, signing) == target
    (target / "model.sig").write_text("torn")
    assert releases.find_trusted(manifest.reference, signing) == target


def test_a_start_needs_no_remote_where_the_signature_is_here(checkout: Path, pair: Pair) -> None:
    paths, manifest = make_run()
    target = publish(paths)
    signing = Signing(public_key=pair.public.read_text())
    Path(".dvc/config").write_text("[core]\n    remote = storage\n['remote \"storage\"']\n    url = s3://nowhere\n")
    assert releases.find_trusted(manifest.reference, signing) == target
    (target / "model.sig").write_text("torn")
    with pytest.raises(RefusedError, match="DVC remote, which did not answer"):
        releases.find_trusted(manifest.reference, signing)


@pytest.mark.parametrize("name", ["../escaped.sig", "release/model.sig", "other.sig", "gate/x.sig"])
def test_only_signatures_come_from_the_remotes_folder_of_them(checkout: Path, pair: Pair, name: str) -> None:
    target = publish(make_run()[0])
    there = checkout / "stores/dvc/signatures" / target.name / name
    there.parent.mkdir(parents=True, exist_ok=True)
    there.write_text("x")
    before = content(target)
    assert not bring_signatures(target)
    assert content(target) == before and not (target.parent / "escaped.sig").exists()


def test_what_an_earlier_tunegate_signed_still_holds(
    checkout: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its signatures are among the bytes that the pointer names."""
    paths, manifest = make_run()
    ignored = Path(".dvcignore").read_text()
    Path(".dvcignore").write_text("")
    target = publish(paths)
    shutil.rmtree(checkout / "stores/dvc/signatures")
    assert "nfiles: 9" in pointer_of(target).read_text()
    Path(".dvcignore").write_text(ignored)
    for folder in (target, Path(".dvc/cache")):
        shutil.rmtree(folder)
    assert releases.find_trusted(manifest.reference, Signing(public_key=pair.public.read_text())) == target


def test_publishing_again_signs_what_was_published_unsigned_once(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY, raising=False)
    paths, _ = make_run()
    publish(paths)
    made = make_pair(checkout)
    monkeypatch.setenv(KEY, str(made.private))
    target = publish(paths)
    first = signatures(target)
    assert set(first) == {"model.sig", "gate.sig", "eval.sig"}
    for folder in ("release", "gate", "eval"):
        verify_signature(target / folder, str(made.public), "x")
    publish(paths)
    assert signatures(target) == first, "a signature is as immutable as what it signs"


def signatures(target: Path) -> dict[str, bytes]:
    return {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*.sig")}


def judge_for(paths: RunPaths, reference: str, environment: str) -> None:
    bound_verdict(reference, environment).write(paths.gate / "verdict.json")


def test_each_verdict_of_a_release_is_signed_with_its_evaluation(checkout: Path, pair: Pair) -> None:
    """Judged anew for the same environment it is signed anew, for another one the first keeps its signatures."""
    paths, manifest = make_run()
    judge_for(paths, manifest.reference, "one")
    target = publish(paths)
    first = signatures(target)
    (paths.evaluation / "metrics.json").write_text('{"metrics": {}}')
    bound_verdict(manifest.reference, "one", changes={"look": 2}).write(paths.gate / "verdict.json")
    publish(paths)
    again = signatures(target)
    assert again["model.sig"] == first["model.sig"]
    assert again["gate.sig"] != first["gate.sig"] and again["eval.sig"] != first["eval.sig"]
    judge_for(paths, manifest.reference, "two")
    publish(paths)
    both = signatures(target)
    assert (both["judged/one/gate.sig"], both["judged/one/eval.sig"]) == (again["gate.sig"], again["eval.sig"])
    for where in (target, target / "judged/one"):
        for folder in ("gate", "eval"):
            verify_signature(where / folder, str(pair.public), "x")


def test_a_key_that_cannot_be_used_publishes_nothing(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "absent.key")
    paths, manifest = make_run()
    with pytest.raises(InputError, match=r"absent\.key"):
        publish(paths)
    assert list(Path("releases").glob("*.dvc")) == []
    monkeypatch.setenv(KEY, str(make_pair(checkout).private))
    publish(paths)
    assert releases.find(manifest.reference)


def test_a_new_key_signs_what_stands_and_the_old_key_signed_it_no_more(checkout: Path, pair: Pair) -> None:
    paths, manifest = make_run()
    target, new = publish(paths), make_pair(checkout, "new")
    sign_published(manifest.reference, new.private)
    for folder in ("gate", "eval"):
        verify_signature(target / folder, str(new.public), "x")
    shutil.rmtree(target)
    assert releases.find_trusted(manifest.reference, Signing(public_key=new.public.read_text())) == target
    with pytest.raises(RefusedError, match="Key mismatch"):
        releases.find_trusted(manifest.reference, Signing(public_key=pair.public.read_text()))
