"""A published release of a few bytes, for a machine that does not serve it in earnest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from configs.release import Manifest, digest_of, list_files
from configs.run.serving import Serving
from configs.verdict import Outcome, Verdict


def publish(name: str, outcome: Outcome = "pass") -> str:
    """releases/NAME@DIGEST12 under the working directory, of a few bytes."""
    folder = Path("releases") / f".{name}" / "release"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_text(name)
    files = list_files(folder)
    facts: dict[str, Any] = {name: {} for name in ("base", "data", "quantization", "versions", "config")}
    facts |= {"git_revision": "x", "created": "2026-11-24"}
    manifest = Manifest(name=name, digest=digest_of(files), task="causal-lm", files=files, serving=Serving(), **facts)
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    Verdict(release=manifest.reference, outcome=outcome, results=[]).write(folder.parent / "gate" / "verdict.json")
    folder.parent.rename(f"releases/{name}@{manifest.digest[7:19]}")
    return manifest.reference
