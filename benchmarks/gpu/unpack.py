"""On the lent machine: the parts that this call brought, checked and kept outside the working tree; each archive that
is whole becomes an environment there, over what the machine has itself. The standard library alone.

python3 -m benchmarks.gpu.unpack build/gpu-parts /tmp/gpu

/tmp/gpu/train/bin/python runs the parts, TUNEGATE_SERVE_PYTHON=/tmp/gpu/serve/bin/python runs vLLM.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import site
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class BrokenPartError(Exception):
    """A part whose bytes are not those of the manifest."""


def main(source: Path, target: Path) -> int:
    manifest = json.loads((source / "MANIFEST.json").read_text(encoding="utf8"))
    try:
        keep_parts(manifest["parts"], source, target / "parts")
    except BrokenPartError as error:
        print(error, file=sys.stderr)
        return 2
    for archive in dict.fromkeys(part["archive"] for part in manifest["parts"]):
        of_it = [part for part in manifest["parts"] if part["archive"] == archive]
        here = [target / "parts" / part["file"] for part in of_it if (target / "parts" / part["file"]).exists()]
        if (target / archive / "ready").exists():
            print(f"{archive}: ready before")
        elif len(here) == len(of_it):
            make_environment(here, target / archive, manifest["settings"].get(archive, {}))
            print(f"{archive}: ready, {target / archive}/bin/python")
        else:
            print(f"{archive}: {len(here)} of {len(of_it)} parts are here")
    return 0


def keep_parts(parts: Sequence[dict[str, Any]], source: Path, kept: Path) -> None:
    """Those that lie in `source`, copied to `kept`. Raises BrokenPartError, and keeps none, where one is broken."""
    kept.mkdir(parents=True, exist_ok=True)
    found = [part for part in parts if (source / part["file"]).exists()]
    for part in found:
        path = source / part["file"]
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != part["sha256"]:
            size = f"{path.stat().st_size} of {part['bytes']} bytes"
            raise BrokenPartError(
                f"{path}: found sha256 {digest[:12]}, {size}, expected {part['sha256'][:12]}: carry it again"
            )
    for part in found:
        shutil.copyfile(source / part["file"], kept / part["file"])


def make_environment(parts: Sequence[Path], folder: Path, settings: dict[str, str]) -> None:
    """A virtual environment with the archive's packages first, then those of the Python that runs this. `settings`:
    environment variables of every process of it."""
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = folder.glob("lib/python3.*/site-packages")
    with tarfile.open(fileobj=io.BytesIO(b"".join(part.read_bytes() for part in parts)), mode="r:xz") as archive:
        archive.extractall(packages, filter="data")
    # addsitedir also reads the machine's own .pth files, which a plain path here would not.
    own = [path for path in dict.fromkeys([*sys.path, *site.getsitepackages()]) if path.endswith("-packages")]
    lines = [f"import site; site.addsitedir({path!r})\n" for path in own]
    lines += [f"import os; os.environ.setdefault({name!r}, {value!r})\n" for name, value in settings.items()]
    (packages / "machine.pth").write_text("".join(lines), encoding="utf8")
    # Three processes import vLLM, and a machine may keep Python from writing what it compiled.
    words = [sys.executable, "-m", "compileall", "-q", "-j", "0", str(packages)]
    subprocess.run(words, stdout=subprocess.DEVNULL, check=False)  # some packages hold files for other Pythons
    (folder / "ready").touch()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
