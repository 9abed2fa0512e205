"""A trained adapter by itself: the folder that peft's PeftModel.from_pretrained takes, and vLLM's --lora-modules where
it is LoRA of a text model without modules_to_save (vllm/lora/peft_helper.py)."""

from __future__ import annotations

import shutil
from pathlib import Path

from configs.errors import InputError, RefusedError
from configs.paths import RunPaths
from configs.release import MANIFEST, read_manifest
from configs.run.config import RunConfig
from infra.files.atomic import new_directory, read_json, write_json, write_text

WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"


def write_adapter(config: RunConfig, paths: RunPaths, target: Path) -> None:
    """Weights, settings and a short card. The settings name the base by its id where it is the hub's, else by the
    folder of the base that was trained.

    Raises InputError before `train`, without its base and where `target` is there already, RefusedError where every
    weight was trained or the adapter only fits a base that it changed as training began.
    """
    if config.train.method == "full":
        raise RefusedError(
            f"{config.name}: train.method full leaves no adapter", hint="tunegate releases push NAME@DIGEST --hub …"
        )
    changed = config.train.lora.initialization
    if changed in ("pissa", "loftq"):
        raise RefusedError(
            f"{config.name}: initialization {changed} changed the base, so the adapter alone fits none",
            hint="--set train.lora.initialization=default, or push the merged release",
        )
    if config.base.add_tokens:
        raise RefusedError(
            f"{config.name}: base.add_tokens changed the base, so the adapter alone fits none",
            hint="tunegate releases push NAME@DIGEST --hub …",
        )
    for name in (WEIGHTS, SETTINGS):
        if not (paths.trained / name).exists():
            raise InputError(f"{paths.trained / name}: missing", hint="tunegate train CONFIG")
    if target.exists():
        raise InputError(f"{target}: found something there, expected a new folder", hint="give another folder")
    settings = read_json(paths.trained / SETTINGS) or {}
    base = Path(str(settings["base_model_name_or_path"]))
    if not (base / MANIFEST).exists():
        raise InputError(f"{base}: missing, and it is the base that was trained", hint="tunegate prepare CONFIG")
    origin = read_manifest(base)
    named = {"base_model_name_or_path": config.base.hub, "revision": config.base.revision} if config.base.hub else {}
    with new_directory(target) as partial:
        shutil.copyfile(paths.trained / WEIGHTS, partial / WEIGHTS)
        write_json(partial / SETTINGS, settings | named)
        write_text(
            partial / "README.md",
            f"# {config.name}\n\nA LoRA adapter (task {config.task}) for `{origin.base['name']}` "
            f"({origin.base['version']}), whose bytes are {origin.digest}.\n",
        )
