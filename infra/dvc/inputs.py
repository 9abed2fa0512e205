"""What the stages of dvc.yaml read of each config, and which configs there are.

.venv/bin/python -m infra.dvc.inputs   # the stage `inputs`

build/inputs/NAME/STAGE.json has the sections that a stage reads, every default filled in, and the sha256 of each file
of rows and weights that they name: DVC sees a changed row and not a changed comment. A YAML that lies elsewhere is
linked into configs/finetune/ (`enlist`). configs/dvc.yaml lists the configs, and the metrics that `dvc metrics show`
shows. What is searched (`sweep:`) or corrupted to be refused (`data.corrupt:`) is no part of the pipeline.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from configs.errors import InputError, TunegateError
from configs.read import environment_path, read_environment, read_run
from configs.rows.files import matches
from configs.run.base import BaseWeights
from configs.run.config import RunConfig
from infra.files.atomic import write_text
from infra.files.hashes import FileHashes
from infra.git.pins import pinned_before

CONFIGS = Path("configs/finetune")
LIST = Path("configs/dvc.yaml")
INPUTS = Path("build/inputs")
HEAD = (
    "# Made from configs/finetune/*.yaml by .venv/bin/python -m infra.dvc.inputs: "
    "what dvc.yaml runs, and its metrics.\n"
)
# By stage, the sections that decide what it puts out; quantize, evaluate and gate read the whole config.
READ = {"prepare": ("task", "problem", "base", "data"), "train": ("task", "problem", "base", "train")}
# Read by `train` too where answers are rewarded as evaluate scores them: a section with its files, and the code.
REWARDED = ("evaluate",)
REWARD_CODE = ("eval/measure/rewards.py", "eval/measure/judge_model.py", "eval/metrics/*.py")
OF_A_BASE = (".safetensors", ".json", ".jinja", ".model", ".txt", ".gguf")
# Read by every stage, and deciding where and under which name it works, not what comes out.
ELSEWHERE = ("name", "experiment", "launch")


def refresh() -> list[str]:
    """Writes what stands above. Returns the configs that came or went."""
    before, configs = known_configs(), {path.stem: path for path in sorted(CONFIGS.glob("*.yaml")) if path.exists()}
    hashes = FileHashes()
    found = {name: inputs_of(path, hashes) for name, path in configs.items()}
    for name, inputs in found.items():
        for stage, values in inputs.items():
            keep(INPUTS / name / f"{stage}.json", json.dumps(values, indent=1, sort_keys=True) + "\n")
    hashes.keep()
    names = [name for name, inputs in found.items() if is_run_by_dvc(name, inputs["config"])]
    keep(LIST, listed(names))
    return sorted(set(names) ^ set(before))


def enlist(path: Path) -> str:
    """The name of the config at `path`, in the pipeline from now on: where it is not configs/finetune/NAME.yaml, that
    becomes a link to it. Raises InputError where another config has the name."""
    name = read_run(path, None).name
    home = CONFIGS / f"{name}.yaml"
    if home.resolve() == path.resolve():
        return name
    if home.exists():
        raise InputError(
            f"{path}: found name {name}, which is that of {home}, expected another", hint="rename one of them"
        )
    home.parent.mkdir(parents=True, exist_ok=True)
    home.unlink(missing_ok=True)  # a link to what is gone
    home.symlink_to(os.path.relpath(path.resolve(), home.parent.resolve()))
    print(f"{home}: links to {path}, for the pipeline runs what lies there", file=sys.stderr)
    return name


def inputs_of(path: Path, hashes: FileHashes) -> dict[str, dict[str, object]]:
    """By stage; `config` is for those that read all. A config that cannot be read is named as such: its own stage says
    what is wrong, and no other's is kept from running."""
    try:
        config = read_run(path, None)
    except TunegateError as error:
        return {stage: {"unreadable": str(error)} for stage in (*READ, "config", "judge")}
    whole = config.model_dump(mode="json")
    base, rows = base_content(config.base, hashes), content_of(config.data.row_files, hashes)
    rewards = content_of([*named_files(whole["evaluate"]), *REWARD_CODE], hashes) if config.task == "grpo" else {}
    content: dict[str, object] = {"prepare": base | rows, "train": base | rewards}
    keys = READ | {"train": (*READ["train"], *(REWARDED if config.task == "grpo" else ()))}
    stages = {stage: {key: whole[key] for key in read} | {"content": content[stage]} for stage, read in keys.items()}
    if config.task == "dpo":  # judged answers are refused by prepare unless the method is kto
        stages["prepare"]["method"] = config.train.preference.method
    if config.evaluate.folds:
        stages["prepare"]["folds"] = config.evaluate.key_of_folds()
    rest = {key: part for key, part in whole.items() if key not in ("data", "base", "gate")}
    return stages | {
        "config": whole | {"content": content_of(named_files(rest), hashes)},
        "judge": judge_inputs(config, hashes),
    }


def judge_inputs(config: RunConfig, hashes: FileHashes) -> dict[str, object]:
    """The gate, and of the environment that the run is judged for its YAML, its own gate, and what it pins where a
    merge request began. What serves by a record is looked at when it is deployed."""
    if config.production is None:
        return {"content": content_of([config.gate], hashes)}
    path = environment_path(config.production)
    try:
        environment = read_environment(config.production)
        if environment.staging_for:
            path = environment_path(environment.staging_for)
            environment = read_environment(environment.staging_for)
        champion = pinned_before(path, environment.release)
    except TunegateError:  # the stage itself says what is wrong
        return {"content": content_of([config.gate, str(path)], hashes)}
    files = [config.gate, str(path), environment.release_gate]
    return {"content": content_of(files, hashes), "champion": champion}


def base_content(base: BaseWeights, hashes: FileHashes) -> dict[str, str]:
    """What the section does not say of the weights: their bytes, or the version of their package."""
    if base.path:  # a trainer's folder also holds optimizers, which no model is made of
        return content_of([str(path) for path in below(base.path) if path.suffix in OF_A_BASE], hashes)
    if base.package is None:
        return {}
    try:
        return {base.package: metadata.version(base.package)}
    except metadata.PackageNotFoundError:
        return {base.package: "not installed"}


def content_of(places: Sequence[str | None], hashes: FileHashes) -> dict[str, str]:
    """Path to sha256, patterns and directories resolved. A URL's content is not looked at."""
    found = (path for place in places if place and "://" not in place for path in below(place))
    return {str(path): hashes.sha256_of(path) for path in found}


def named_files(value: object) -> list[str]:
    """Every text below `value` that is the path of a file here: a JSON Schema, a list of questions."""
    if isinstance(value, dict):
        return [path for part in value.values() for path in named_files(part)]
    if isinstance(value, list):
        return [path for part in value for path in named_files(part)]
    return [value] if isinstance(value, str) and len(value) < 1_000 and os.path.isfile(value) else []


def is_run_by_dvc(stem: str, config: dict[str, object]) -> bool:
    """A config works in build/NAME and is run by its file's name, so both must be one; `tunegate repro` links it."""
    data = config.get("data")
    is_corrupted = isinstance(data, dict) and data.get("corrupt", "none") != "none"
    return not config.get("sweep") and not is_corrupted and config.get("name", stem) == stem


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
