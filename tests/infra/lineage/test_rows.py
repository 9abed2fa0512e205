"""What the rows of a release are like, by a directory or by the reference of one that is published."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from configs.errors import InputError
from configs.release import digest_of, list_files
from infra.dvc.publish import publish
from infra.lineage.rows import rows_of_release
from tests.support.releases import checkout, make_run

__all__ = ["checkout"]
pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore:_NoneStep.value")]  # the warning is inside DVC
CARD = {"fingerprint": "sha256:da7a", "summary": {"rows": 7}}


def published(card: object) -> str:
    paths, manifest = make_run("demo")
    (paths.release / "data_card.json").write_text(json.dumps(card))
    files = list_files(paths.release)
    manifest = manifest.model_copy(update={"files": files, "digest": digest_of(files)})
    (paths.release / "manifest.json").write_text(manifest.model_dump_json())
    verdict = json.loads((paths.gate / "verdict.json").read_text())
    (paths.gate / "verdict.json").write_text(json.dumps(verdict | {"release": manifest.reference}))
    publish(paths, None)
    return manifest.reference


def test_a_published_release_is_known_by_each_of_its_names(checkout: Path) -> None:
    reference = published(CARD)
    for name in (reference, reference.partition("@")[2], reference.partition(":")[2][:12], "build/demo/release"):
        assert rows_of_release(name) == {"rows": 7}
    shutil.rmtree("build")
    assert rows_of_release(reference) == {"rows": 7}, "its bytes lie with DVC"
    with pytest.raises(InputError, match="found no such release"):
        rows_of_release("f" * 12)
    with pytest.raises(InputError, match="found no digest"):
        rows_of_release("build/nowhere")


@pytest.mark.parametrize("text", [None, "{", "[1]", '{"fingerprint": "sha256:da7a"}'])
def test_a_directory_without_a_summary_of_rows_is_an_input_error(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "data_card.json").write_text(text)
    with pytest.raises(InputError, match="expected one"):
        rows_of_release(str(tmp_path))
