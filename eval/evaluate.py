"""Measures a release through vLLM, with production's own arguments: predictions.parquet and metrics.json."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from configs.environment.config import DeployConfig
from configs.errors import InputError
from configs.paths import RunPaths
from configs.release import Manifest, verify_release
from configs.run.config import RunConfig
from eval.behaviour.run import behave, make_asker
from eval.measure.answers import BATCH_ROWS, Answers, Row, ask_all, read_ids, read_rows
from eval.measure.cache import answers_key, evaluation_key, keep, recall
from eval.measure.harness import figures_of, run_harness
from eval.measure.judge_model import judge_rows, scores_of
from eval.measure.parent import PROBED_ROWS, compare, probe, write_card
from eval.measure.references import measure_references
from eval.measure.slices import make_slicer
from eval.metrics.aggregate import kind_of, score, summarise
from eval.metrics.cost import cost, size_of
from infra.tokenizer import with_tokens
from infra.vllm.parity import check_parity
from infra.vllm.server import peak_memory_bytes, temporary_slot

SERVED_NAME = "release"
TEXTS, LISTS, INTEGERS = {"id", "gold", "answer", "probabilities"}, {"gold_labels", "answer_labels", "slices"}, {"bleu_statistics", "chrf_statistics"}


def evaluate(config: RunConfig, paths: RunPaths, production: DeployConfig | None = None) -> dict[str, Any]:
    """The contents of metrics.json. Raises RefusedError on wrong bytes, InputError without data, OutsideError if vLLM fails.

    Beside it the base and the parent where the config asks for them, and the releases that its gate compares with, the one in `production` first.
    """
    target = paths.evaluation
    record = measure(config, paths, paths.release, target, probed=paths.parent.exists())
    if paths.parent.exists():
        parent = measure(config, paths, paths.parent, target / "parent", probed=True)
        compared = compare(record, parent, target)
        record = record | {"metrics": record["metrics"] | compared, "compared": sorted(compared)}
        write_atomically(target / "card.md", write_card(record, parent, config))
    else:
        shutil.rmtree(target / "parent", ignore_errors=True)
        (target / "card.md").unlink(missing_ok=True)
    write_atomically(target / "metrics.json", json.dumps(record, indent=2))
    if config.evaluate.baseline:
        measure(config, paths, Path("build/base") / config.base.name, target / "base")
    else:
        shutil.rmtree(target / "base", ignore_errors=True)
    if production is not None:
        measure_references(config, dataset_of(paths), production, target, lambda release, folder: measure(config, paths, release, folder))
    return record


def measure(config: RunConfig, paths: RunPaths, release: Path, target: Path, *, probed: bool = False) -> dict[str, Any]:
    """One release, one set of rows; what was measured anywhere is not measured again, what was asked here is not asked again.

    `probed`: also what a comparison with the parent needs.
    """
    manifest, dataset = verify_release(release), dataset_of(paths)
    test, key, settings = paths.data / "test.parquet", evaluation_key(manifest.digest, dataset, config), config.evaluate
    finished = recall(key, target, manifest.reference, probed)
    if finished is not None:
        return finished
    answers = Answers.open(paths.root / "answers" / f"{answers_key(manifest.digest, dataset, config)}.jsonl", read_ids(test))
    slicer = make_slicer(settings.cuts, read_rows(test))
    target.mkdir(parents=True, exist_ok=True)
    for stale in ("metrics.json", "probe.json"):
        (target / stale).unlink(missing_ok=True)
    log = target / "vllm.log"
    with temporary_slot(release, manifest, served_name=SERVED_NAME, log=log) as base_url:
        ask_all(base_url, SERVED_NAME, manifest, encoded(manifest, release, answers.missing(read_rows(test)), settings.perplexity), answers, settings)
        parity = asdict(check_parity(base_url, SERVED_NAME, release, manifest)) if (release / "golden.jsonl").exists() else None
        if probed:
            first = with_tokens(manifest, release, list(islice(read_rows(test), PROBED_ROWS)))
            write_atomically(target / "probe.json", probe(base_url, SERVED_NAME, manifest, first, config).as_json())
        ask = make_asker(base_url, SERVED_NAME, manifest, release, answers.path.parent, settings)
        behaviour = behave(settings, manifest, lambda: read_rows(test), answers.at, ask, target)
        harness = run_harness(base_url, SERVED_NAME, manifest, release, settings, target)
        memory = peak_memory_bytes(log)
    if parity and not math.isfinite(parity["difference"]):
        parity["difference"] = None
    judged = judge_rows(settings.judge, read_rows(test), answers.at, target) if settings.judge else {}
    rows = zip(read_rows(test), answers.in_order(), strict=True)
    write_predictions(target, (score(manifest.task, row, answer, settings) | scores_of(judged, row["id"]) | {"slices": slicer(row)} for row, answer in rows))
    kind = kind_of(manifest.task, next(read_rows(test)))
    figures = summarise(target / "predictions.parquet", kind, settings.minimum_slice)
    record = {"release": manifest.reference, "dataset": dataset, "n": len(answers.ids), **figures, "parity": parity, "size_bytes": size_of(manifest)}
    record["metrics"] |= figures_of(harness)
    record |= {"behaviour": behaviour, "harness": harness}
    record |= {"cost": cost(target / "predictions.parquet", manifest, memory), "key": key}
    write_atomically(target / "metrics.json", json.dumps(record, indent=2))
    keep(key, target)
    return record


def encoded(manifest: Manifest, release: Path, rows: Iterable[tuple[int, Row]], references: bool) -> Iterator[tuple[int, Row]]:
    """Numbered rows with the tokens that they are asked by, BATCH_ROWS at a time."""
    numbered = iter(rows)
    while chunk := list(islice(numbered, BATCH_ROWS)):
        numbers, found = zip(*chunk, strict=True)
        yield from zip(numbers, with_tokens(manifest, release, list(found), references=references), strict=True)


def dataset_of(paths: RunPaths) -> str:
    try:
        return str(json.loads((paths.data / "data_card.json").read_text(encoding="utf8"))["test_fingerprint"])
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{paths.data}/data_card.json: no test rows were prepared", hint="tunegate prepare CONFIG") from error


def write_predictions(target: Path, scored: Iterator[Row]) -> None:
    """predictions.parquet, BATCH_ROWS rows in memory at a time; the first row has the columns of all."""
    import pyarrow.parquet

    partial, schema = target / "predictions.parquet.partial", None
    while chunk := list(islice(scored, BATCH_ROWS)):
        if schema is None:
            schema = arrow_schema(chunk[0])
            writer = pyarrow.parquet.ParquetWriter(partial, schema)
        writer.write_table(pyarrow.Table.from_pylist(chunk, schema=schema))
    writer.close()
    os.replace(partial, target / "predictions.parquet")


def arrow_schema(row: Row) -> Any:
    """Texts and lists by name, a regression's gold and answer as its other figures: float64."""
    import pyarrow

    def kind(name: str) -> Any:
        if name in LISTS:
            return pyarrow.list_(pyarrow.string())
        if name in INTEGERS:
            return pyarrow.list_(pyarrow.int64())
        return pyarrow.string() if name in TEXTS and not isinstance(row[name], float) else pyarrow.float64()

    return pyarrow.schema([(name, kind(name)) for name in row])


def write_atomically(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf8")
    os.replace(partial, path)
