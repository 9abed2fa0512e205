"""What the served parts share: where vLLM's Python is, what a release is served with, releases that are made once."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from benchmarks import prove
from benchmarks.gpu.release import write_releases
from benchmarks.gpu.shapes import LLAMA_8B, TINY
from configs.release import Manifest, read_manifest
from configs.run.serving import Serving
from infra.dvc.releases import folder_of

ROOT = Path(__file__).parents[2]
FOLDER = prove.FOLDER.absolute() / "gpu/served"  # whatever folder a part goes into
NAMES = ("one", "two")


def use_serve_python() -> None:
    """The checkout's serve environment, where none is named."""
    os.environ.setdefault("TUNEGATE_SERVE_PYTHON", str(ROOT / ".venv-serve/bin/python"))


def serving_of(tiny: bool) -> Serving:
    """Eager on a GPU too: compiling and capturing would take most of a part's minutes, and no promise of these parts is
    about them."""
    if tiny:
        return Serving(dtype="bfloat16", max_model_len=512, max_num_seqs=32, device="cpu")
    return Serving(dtype="bfloat16", max_model_len=2048, max_num_seqs=128, device="cuda", enforce_eager=True)


def releases(tiny: bool) -> tuple[str, ...]:
    """Two of one shape, under FOLDER/releases; what an earlier part made is taken as it is."""
    note, shape, serving = FOLDER / "releases.json", TINY if tiny else LLAMA_8B, serving_of(tiny)
    asked = {"shape": shape, "serving": serving.model_dump(mode="json")}
    found = json.loads(note.read_text(encoding="utf8")) if note.exists() else {}
    if found.get("asked") != asked:
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.mkdir(parents=True)
        found = {"asked": asked, "made": write_releases(FOLDER, shape, serving, NAMES)}
        note.write_text(json.dumps(found), encoding="utf8")
    return tuple(found["made"])


def read_release(reference: str) -> tuple[Path, Manifest]:
    folder = (FOLDER / folder_of(reference) / "release").absolute()
    return folder, read_manifest(folder)
