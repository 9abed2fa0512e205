"""Trained weights in, release out: merged, pruned, quantized (or left as they are), with golden prompts, card and
manifest; whole or absent."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from configs.data_card import DATA_CARD, DataCard, released
from configs.digest import key_of
from configs.errors import InputError, RefusedError
from configs.paths import RunPaths
from configs.release import ADAPTER, MANIFEST, Manifest, digest_of, list_files, read_manifest
from configs.run.config import RunConfig
from configs.run.quantize import Prune
from configs.task import served_problem, served_task
from configs.training_record import TrainingRecord, read_training_record
from infra.files.atomic import new_directory, read_json, write_json, write_text
from infra.files.hashes import remembered, verify_known
from infra.git.command import head_revision
from train.data.prepared import first_rows, read_card
from train.loop.constant import refuse_nothing_learnt
from train.model.adapter import trained_key
from train.model.base import library_versions, make_base, weights_size
from train.model.dtype import stored_dtype
from train.release.calibration import calibration_rows, describe, encoded, loader
from train.release.device import dispatched, held_dtype
from train.release.facts import PruneFacts, QuantizationFacts
from train.release.generation import taken_out
from train.release.golden import write_golden
from train.release.merge import complete, finalize_directory, merge, round_weights, save, save_unmerged
from train.release.model_card import write_card
from train.release.prune import prune, recover, sparsity
from train.release.recipe import compress


def quantize(config: RunConfig, paths: RunPaths) -> Manifest:
    """The release's manifest. Raises InputError before `train`, RefusedError after one that learnt nothing. A second
    call with the same inputs does nothing."""
    base, card, training = make_base(config), read_card(paths), read_training(paths)
    refuse_nothing_learnt(config, training)
    key = key_of(config.model_dump(), trained_key(paths.trained), read_manifest(base).digest, card["fingerprint"])
    finished = read_finished(config, paths, key)
    if finished is not None:
        return finished
    model, tokenizer = merge(config, base, paths.trained, card["labels"], held_dtype(config, base))
    golden = first_rows(paths, "validation", config.evaluate.parity.golden_prompts)
    with new_directory(paths.parent) as parent, new_directory(paths.release) as partial:
        if config.quantize.scheme == "adapter":  # its golden answers are those of the sum that nobody rounds
            save_unmerged(base, paths.trained, partial)
            write_golden(config, model, tokenizer, golden, partial / "golden.jsonl")
        round_weights(model, stored_dtype(base))  # the golden answers are those of the stored bytes
        save(model, tokenizer, parent, stored_dtype(base))
        with dispatched(model):
            write_golden(config, model, tokenizer, golden, parent / "golden.jsonl")
        facts = make_smaller(config, paths, model, tokenizer, card["labels"], parent, partial)
        if taken := taken_out(base):
            facts["generation_removed"] = taken
        facts["size_bytes"] = weights_size(partial) + weights_size(partial / ADAPTER)
        facts["parent_size_bytes"] = weights_size(parent)
        write_text(partial / "README.md", write_card(config, card, training, read_manifest(base).base, facts))
        if data := released(card):
            write_json(partial / DATA_CARD, data)
        parent_facts: QuantizationFacts = {"scheme": "none", "size_bytes": facts["parent_size_bytes"], "key": key}
        facts["parent_digest"] = write_manifest(parent, config, base, card, parent_facts).digest
        manifest = write_manifest(partial, config, base, card, {**facts, "key": key})
    if not config.quantize.compare_parent:
        shutil.rmtree(paths.parent)
    return manifest


def make_smaller(
    config: RunConfig, paths: RunPaths, model: Any, tokenizer: Any, labels: list[str], parent: Path, target: Path
) -> QuantizationFacts:
    """Prunes, quantizes and saves into `target`; returns the manifest's quantization facts. The golden answers of a
    pruned release are the pruned model's."""
    rows, dtype, facts = calibration_rows(config, paths), stored_dtype(parent), QuantizationFacts()
    batches = loader(encoded(paths, rows)) if rows else None
    if config.quantize.prune is not None:
        facts["prune"] = prune_model(config, config.quantize.prune, paths, model, tokenizer, labels, batches, dtype)
        golden = first_rows(paths, "validation", config.evaluate.parity.golden_prompts)
        write_golden(config, model, tokenizer, golden, target / "golden.jsonl")
    if config.quantize.scheme == "adapter":
        settings = read_json(target / ADAPTER / "adapter_config.json") or {}
        facts |= {"scheme": "adapter", "rank": config.train.lora.largest_rank, "layers": settings["target_modules"]}
    elif config.quantize.scheme != "none":
        facts |= compress(model, config.quantize, batches, target)
        finalize_directory(target, dtype)
    else:
        facts["scheme"] = "none"
        save(model, tokenizer, target, dtype)
    complete(target, parent)
    if rows:
        facts["calibration"] = describe(config, paths, rows)
    return facts


def prune_model(
    config: RunConfig,
    settings: Prune,
    paths: RunPaths,
    model: Any,
    tokenizer: Any,
    labels: list[str],
    batches: Any,
    dtype: Any,
) -> PruneFacts:
    prune(model, settings, batches)
    if settings.recovery_steps:
        rows = encoded(paths)
        recover(model, settings, rows, labels, tokenizer.pad_token_id, config.train.batch_size, config.train.seed)
    round_weights(model, dtype)
    return {
        "method": settings.method,
        "structure": settings.structure,
        "sparsity": settings.sparsity,
        "recovery_steps": settings.recovery_steps,
        "measured_sparsity": round(sparsity(model), 4),
    }


def read_training(paths: RunPaths) -> TrainingRecord:
    """Raises InputError where train has not written it."""
    record = read_training_record(paths)
    if record is None:
        raise InputError(f"{paths.trained}/training.json: missing", hint="tunegate train CONFIG")
    return record


def read_finished(config: RunConfig, paths: RunPaths, key: str) -> Manifest | None:
    """The release of this very key, if it (and the parent, where wanted) is there and whole."""
    wanted = [paths.release, paths.parent] if config.quantize.compare_parent else [paths.release]
    try:
        manifests = [verify_known(directory) for directory in wanted]
    except (InputError, RefusedError):
        return None
    return manifests[0] if all(manifest.quantization.get("key") == key for manifest in manifests) else None


def write_manifest(
    directory: Path, config: RunConfig, base: Path, card: DataCard, quantization: QuantizationFacts
) -> Manifest:
    """Last of all: a directory without it is no release."""
    with remembered() as hash_file:
        files, origin = list_files(directory, hash_file), read_manifest(base)
    manifest = Manifest(
        name=config.name,
        digest=digest_of(files),
        task=served_task(config.task),
        problem=served_problem(config.task, config.problem),
        files=files,
        serving=config.serving,
        labels=card["labels"],
        base={"name": origin.base["name"], "version": origin.base["version"], "digest": origin.digest},
        data={"fingerprint": card["fingerprint"], "test_fingerprint": card["test_fingerprint"]},
        quantization=dict(quantization),
        git_revision=head_revision(),
        versions=library_versions(),
        config=config.model_dump(mode="json"),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_text(directory / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
    return manifest
