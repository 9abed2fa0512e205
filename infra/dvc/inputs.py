"""What the stages of dvc.yaml read of each config, and which configs there are.

.venv/bin/python -m infra.dvc.inputs   # the stage `inputs`

build/inputs/NAME/STAGE.json has the sections that a stage reads, every default filled in, and the sha256 of each file
of rows and weights that they name: DVC sees a changed row and not a changed comment. configs/dvc.yaml lists the
configs, and the metrics that `dvc metrics show` shows. What is searched (`sweep:`) or corrupted to be refused
(`data.corrupt:`) is no part of the pipeline.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from configs.digest import sha256_of
from configs.errors import TunegateError
from configs.read import read_run
from configs.rows.files import matches
from configs.run.config import RunConfig
from infra.files.atomic import read_json, write_json, write_text

CONFIGS = Path("configs/finetune")
LIST = Path("configs/dvc.yaml")
INPUTS = Path("build/inputs")
HASHED = Path("build/hashed.json")  # size and time of each file when it was last hashed
HEAD = (
    "# Made from configs/finetune/*.yaml by .venv/bin/python -m infra.dvc.inputs: "
    "what dvc.yaml runs, and its metrics.\n"
)
READ = {"prepare": ("task", "problem", "base", "data"), "train": ("task", "problem", "base", "train")}


def refresh() -> list[str]:
    """Writes what stands above. Returns the configs that came or went."""
    before, configs = known_configs(), {path.stem: path for path in sorted(CONFIGS.glob("*.yaml"))}
    hashes = Hashes()
    found = {name: inputs_of(path, hashes) for name, path in configs.items()}
    for name, inputs in found.items():
        for stage, values in inputs.items():
            keep(INPUTS / name / f"{stage}.json", json.dumps(values, indent=1, sort_keys=True) + "\n")
    hashes.keep()
    names = [name for name, inputs in found.items() if is_run_by_dvc(inputs["config"])]
    keep(LIST, listed(names))
    return sorted(set(names) ^ set(before))


def inputs_of(path: Path, hashes: Hashes) -> dict[str, dict[str, object]]:
    """By stage; `config` is for those that read all. A config that cannot be read is named as such: its own stage says
    what is wrong, and no other's is kept from running."""
    try:
        config = read_run(path, None)
    except TunegateError as error:
        return {stage: {"unreadable": str(error)} for stage in (*READ, "config")}
    whole = config.model_dump(mode="json")
    base, rows = hashes.of([config.base.path]), hashes.of(row_files(config))
    content: dict[str, object] = {"prepare": base | rows, "train": base}
    stages = {stage: {key: whole[key] for key in keys} | {"content": content[stage]} for stage, keys in READ.items()}
    return stages | {"config": whole | {"content": hashes.of(named_files(whole["evaluate"]))}}


def row_files(config: RunConfig) -> list[str | None]:
    return [*config.data.row_files]


def named_files(value: object) -> list[str | None]:
    """Every text below `value` that is the path of a file here: a JSON Schema, a list of questions."""
    if isinstance(value, dict):
        return [path for part in value.values() for path in named_files(part)]
    if isinstance(value, list):
        return [path for part in value for path in named_files(part)]
    return [value] if isinstance(value, str) and "/" in value and len(value) < 1_000 and Path(value).is_file() else []


def is_run_by_dvc(config: dict[str, object]) -> bool:
    data = config.get("data")
    is_corrupted = isinstance(data, dict) and data.get("corrupt", "none") != "none"
    return not config.get("sweep") and not is_corrupted


class Hashes:
    """sha256 of files, hashed again only where size or time changed since the last time."""

    def __init__(self) -> None:
        self.before: dict[str, list[object]] = read_json(HASHED) or {}
        self.now: dict[str, list[object]] = {}

    def of(self, places: list[str | None]) -> dict[str, str]:
        """Path to sha256, patterns and directories resolved. A URL's content is not looked at."""
        return {str(path): self.one(path) for place in places if place and "://" not in place for path in below(place)}

    def one(self, path: Path) -> str:
        state = path.stat()
        known = self.before.get(str(path))
        digest = str(known[2]) if known and known[:2] == [state.st_size, state.st_mtime_ns] else sha256_of(path)
        self.now[str(path)] = [state.st_size, state.st_mtime_ns, digest]
        return digest

    def keep(self) -> None:
        if self.now != self.before:
            write_json(HASHED, self.now)


def below(place: str) -> list[Path]:
    files = [path for one in map(Path, matches(place)) for path in ([one] if one.is_file() else one.rglob("*"))]
    return sorted(path for path in files if path.is_file())


def known_configs(path: Path = LIST) -> list[str]:
    """The configs that dvc.yaml runs."""
    from ruamel.yaml import YAML

    page = YAML(typ="safe").load(path.read_text(encoding="utf8")) if path.exists() else {}
    return [str(name) for one in page.get("vars", []) for name in one.get("configs", [])]


def listed(names: list[str]) -> str:
    metrics = "".join(f"  - ../build/{name}/eval/metrics.json\n" for name in names)
    return f"{HEAD}vars:\n  - configs: [{', '.join(names)}]\nmetrics:{metrics and chr(10)}{metrics or ' []' + chr(10)}"


def keep(path: Path, text: str) -> None:
    """Written only where it changed: git and DVC look at times."""
    if not path.exists() or path.read_text(encoding="utf8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)


def main() -> int:
    changed = refresh()
    if changed:
        print(f"{LIST}: {', '.join(changed)} came or went. The same command runs what is in it now.", file=sys.stderr)
    return int(bool(changed))


if __name__ == "__main__":
    sys.exit(main())
