"""What `make clean` and `make setup` ask first: does anything run from these folders of the checkout, and is anything
in them the only copy? `python -m infra.state.clean FOLDER…` moves what it can, and ends with 1 where the answer is yes.
Of the standard library alone: the environment that it is asked about may be gone."""

from __future__ import annotations

import re
import sqlite3
import sys
from pathlib import Path

from configs.errors import TunegateError
from infra.boot import words_of
from infra.files.in_use import users_of
from infra.state.places import DVC_REMOTE, EARLIER, LOOKS, MLFLOW_DATABASE, OLDEST_LOOKS, RECORD, earlier
from infra.state.stores import mlflow_database, settle_dvc_remote, settle_looks

BUILD = Path("build")
HINT = "tunegate stop ENV (make stop ends the demo), then the same again"
OURS = re.compile(
    r"tunegate|haproxy|vllm|mlflow|locust|torchrun"
)  # of .venv also an editor's or a person's Python runs


def running(folder: Path) -> list[str]:
    """Each process that works from it, in words."""
    found = {pid: " ".join(words_of(pid)).strip() for pid in users_of(folder)}
    return [
        f"process {pid} runs from {folder}: {words[:160]}"
        for pid, words in found.items()
        if folder.name != ".venv" or OURS.search(words)
    ]


def only_copies() -> list[str]:
    """In build/: what the stores' and the environments' own commands have not moved, and how they do."""
    said = []
    for settle in (settle_dvc_remote, settle_looks, lambda: mlflow_database(Path.cwd())):
        try:
            settle()
        except (TunegateError, OSError, sqlite3.Error) as error:
            said.append(str(error))
    stores = [earlier(place) for place in (DVC_REMOTE, MLFLOW_DATABASE, LOOKS, OLDEST_LOOKS)]
    said += [
        f"{path} holds what no command can make again, and was not moved to stores/ (does .dvc/config name it?)"
        for path in stores
        if path.exists()
    ]
    return said + [
        f"{folder} holds the record and the keys of an environment: `.venv/bin/tunegate stop {name}` moves them out of "
        "build/, once nothing of it runs and its YAML says no `state_dir`; remove the folder by hand if nobody wants it"
        for name, folder in states()
    ]


def states() -> list[tuple[str, Path]]:
    """Name and folder: where an earlier tunegate kept them, and where a YAML of the checkout says."""
    found = {folder: folder.name for folder in EARLIER.glob("*")}
    for path in sorted(Path("configs/deploy").glob("*.yaml")):
        text = path.read_text(encoding="utf8")
        if said := re.search(r"""(?m)^state_dir:\s*["']?([^"'#\n]+)""", text):
            folder = Path(said[1].strip())
            if folder.absolute().is_relative_to(BUILD.absolute()):
                found[folder] = path.stem
    return sorted((name, folder) for folder, name in found.items() if (folder / RECORD).exists())


def main(folders: list[Path]) -> int:
    said = [line for folder in folders for line in running(folder)]
    said = said or (only_copies() if BUILD in folders else [])
    for line in said:
        print(f"error: {line}", file=sys.stderr)
    if said:
        print(f"  nothing of {' '.join(map(str, folders))} was touched", file=sys.stderr)
        print(f"  try: {HINT}", file=sys.stderr)
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]]))
