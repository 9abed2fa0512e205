"""Publishing with a key: the signature travels with the bytes, and is made once for a key."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from configs.environment.signing import Signing
from configs.errors import InputError, RefusedError
from infra.dvc import releases
from infra.signing import KEY, verify_signature
from tests.infra.test_signing import Pair, make_pair
from tests.support.releases import checkout, content, make_run

__all__ = ["checkout"]
pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore:_NoneStep.value")]  # the warning is inside DVC


@pytest.fixture
def pair(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """The publisher's keys; publishing signs from here on."""
    made = make_pair(checkout)
    monkeypatch.setenv(KEY, str(made.private))
    return made


def test_publishing_signs_and_the_signature_travels_with_the_bytes(checkout: Path, pair: Pair) -> None:
    paths, manifest = make_run()
    target = releases.publish(paths)
    for folder in (target, Path(".dvc/cache"), paths.root):
        shutil.rmtree(folder)
    assert releases.find_trusted(manifest.reference, Signing(public_key=pair.public.read_text())) == target
    assert set(content(target)) == {
        "release/model.safetensors",
        "release/manifest.json",
        "eval/metrics.json",
        "eval/base/metrics.json",
        "gate/verdict.json",
        "lineage.json",
        "model.sig",
    }


def test_without_a_key_nothing_is_signed_and_only_who_asks_for_a_signature_misses_it(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY, raising=False)
    paths, manifest = make_run()
    target = releases.publish(paths)
    assert releases.find_trusted(manifest.reference, None) == target
    with pytest.raises(RefusedError, match=r"found no .*model\.sig"):
        releases.find_trusted(manifest.reference, Signing(public_key=make_pair(checkout).public.read_text()))


def test_publishing_again_signs_what_was_published_unsigned_once(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY, raising=False)
    paths, _ = make_run()
    releases.publish(paths)
    made = make_pair(checkout)
    monkeypatch.setenv(KEY, str(made.private))
    target = releases.publish(paths)
    first = (target / "model.sig").read_bytes()
    verify_signature(target / "release", str(made.public))
    releases.publish(paths)
    assert (target / "model.sig").read_bytes() == first, "a signature is as immutable as what it signs"


def test_a_key_that_cannot_be_used_publishes_nothing(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "absent.key")
    paths, manifest = make_run()
    with pytest.raises(InputError, match=r"absent\.key"):
        releases.publish(paths)
    assert list(Path("releases").glob("*.dvc")) == []
    monkeypatch.setenv(KEY, str(make_pair(checkout).private))
    releases.publish(paths)
    assert releases.find(manifest.reference)


def test_a_new_key_signs_what_stands_and_the_old_key_signed_it_no_more(checkout: Path, pair: Pair) -> None:
    paths, manifest = make_run()
    target, new = releases.publish(paths), make_pair(checkout, "new")
    releases.sign_published(manifest.reference, new.private)
    shutil.rmtree(target)
    assert releases.find_trusted(manifest.reference, Signing(public_key=new.public.read_text())) == target
    with pytest.raises(RefusedError, match="Key mismatch"):
        releases.find_trusted(manifest.reference, Signing(public_key=pair.public.read_text()))
