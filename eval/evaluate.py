"""Measures a release through vLLM, with production's own arguments: predictions.parquet and metrics.json."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from configs.errors import InputError, TunegateError
from configs.paths import RunPaths
from configs.release import Manifest, read_manifest, verify_release
from configs.schema import RunConfig
from eval.metrics import score, summarise
from eval.parent import compare, probe, write_card
from infra.endpoint import Answer, ask, check_parity
from infra.slot import temporary_slot
from infra.tokenizer import with_tokens

SERVED_NAME = "release"


def evaluate(config: RunConfig, paths: RunPaths, *, release: Path | None = None, output: Path | None = None) -> dict[str, Any]:
    """The contents of metrics.json. Raises RefusedError on wrong bytes, InputError without data, OutsideError if vLLM fails.

    Without `release`: the run's own, with the base and the parent beside it where the config asks for them.
    """
    target = output or paths.evaluation
    if release is not None:
        return measure(config, paths, release, target)
    record = measure(config, paths, paths.release, target, probed=paths.parent.exists())
    if paths.parent.exists():
        parent = measure(config, paths, paths.parent, target / "parent", probed=True)
        record = record | {"metrics": record["metrics"] | compare(record, parent, target)}
        write_atomically(target / "card.md", write_card(record, parent, config))
        write_atomically(target / "metrics.json", json.dumps(record, indent=2))
    else:
        shutil.rmtree(target / "parent", ignore_errors=True)
        (target / "card.md").unlink(missing_ok=True)
    if config.evaluate.baseline:
        measure_base(config, paths, target / "base")
    else:
        shutil.rmtree(target / "base", ignore_errors=True)
    return record


def measure_base(config: RunConfig, paths: RunPaths, target: Path) -> None:
    """The base is measured once for all configs that ask it the same questions."""
    name = config.base.name
    base = Path("build/base") / name
    key = evaluation_key(read_manifest(base), dataset_of(paths), config)
    cache = base.parent / f"{name}-eval" / key[:16]
    measure(config, paths, base, cache)
    target.mkdir(parents=True, exist_ok=True)
    for file in ("predictions.parquet", "metrics.json"):
        shutil.copy2(cache / file, target / file)


def measure(config: RunConfig, paths: RunPaths, release: Path, target: Path, *, probed: bool = False) -> dict[str, Any]:
    """One release, one set of rows; what an earlier run finished is not asked again. `probed`: also what a comparison with the parent needs."""
    manifest, dataset = verify_release(release), dataset_of(paths)
    key = evaluation_key(manifest, dataset, config, probed)
    finished = read_finished(target, key)
    if finished is not None and (not probed or (target / "probe.json").exists()):
        return finished
    rows = with_tokens(manifest, release, read_rows(paths.data / "test.parquet"))
    target.mkdir(parents=True, exist_ok=True)
    cache = target / f"answers-{key[:16]}.jsonl"
    with temporary_slot(release, manifest, served_name=SERVED_NAME, log=target / "vllm.log") as base_url:
        answers = ask_all(base_url, manifest, rows, config, cache)
        parity = asdict(check_parity(base_url, SERVED_NAME, release, manifest)) if (release / "golden.jsonl").exists() else None
        if probed:
            write_atomically(target / "probe.json", probe(base_url, SERVED_NAME, manifest, rows, config).as_json())
    if parity and not math.isfinite(parity["difference"]):
        parity["difference"] = None
    scored = [score(manifest.task, row, answers[row["id"]]) for row in rows]
    size = sum(file.size for file in manifest.files if file.path.endswith(".safetensors"))
    record = {"release": manifest.reference, "dataset": dataset, "n": len(rows), "metrics": summarise(manifest.task, scored)}
    record |= {"parity": parity, "size_bytes": size, "key": key}
    write_results(target, scored, record)
    return record


def dataset_of(paths: RunPaths) -> str:
    try:
        return str(json.loads((paths.data / "data_card.json").read_text(encoding="utf8"))["test_fingerprint"])
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{paths.data}/data_card.json: no test rows were prepared", hint="tunegate prepare CONFIG") from error


def read_rows(path: Path) -> list[dict[str, Any]]:
    import pandas

    if not path.exists():
        raise InputError(f"{path}: missing", hint="tunegate prepare CONFIG")
    rows = [{str(key): one for key, one in row.items()} for row in pandas.read_parquet(path).to_dict("records")]
    if not rows or len({row["id"] for row in rows}) != len(rows):
        raise InputError(f"{path}: no rows, or ids that repeat", hint="tunegate prepare CONFIG")
    return rows


def evaluation_key(manifest: Manifest, dataset: str, config: RunConfig, probed: bool = False) -> str:
    parts = [manifest.digest, dataset, config.evaluate.max_new_tokens, config.evaluate.concurrency, config.evaluate.parity.model_dump()]
    parts += ["probed"] if probed else []
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def read_finished(target: Path, key: str) -> dict[str, Any] | None:
    if not (target / "predictions.parquet").exists():
        return None
    try:
        record: dict[str, Any] = json.loads((target / "metrics.json").read_text(encoding="utf8"))
    except (OSError, ValueError):
        return None
    return record if record.get("key") == key else None


def read_cache(path: Path) -> dict[str, Answer]:
    """A line cut short by a kill is dropped, and the file is rewritten without it."""
    answers: dict[str, Answer] = {}
    for line in path.read_text(encoding="utf8").splitlines() if path.exists() else []:
        try:
            found = json.loads(line)
            answers[found["id"]] = Answer(**found["answer"])
        except (ValueError, KeyError, TypeError):
            continue
    write_atomically(path, "".join(cache_line(name, answer) for name, answer in answers.items()))
    return answers


def cache_line(name: str, answer: Answer) -> str:
    return json.dumps({"id": name, "answer": asdict(answer)}) + "\n"


def ask_all(base_url: str, manifest: Manifest, rows: list[dict[str, Any]], config: RunConfig, cache: Path) -> dict[str, Answer]:
    """Unwraps the task group: the first failure is the one to report."""
    try:
        return asyncio.run(ask_rows(base_url, manifest, rows, config, cache))
    except* TunegateError as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        failure = first
    raise failure


async def ask_rows(base_url: str, manifest: Manifest, rows: list[dict[str, Any]], config: RunConfig, cache: Path) -> dict[str, Answer]:
    """Answers by id; each is on disk before the next is asked."""
    import httpx
    from rich.console import Console
    from rich.progress import Progress

    answers = read_cache(cache)
    places = asyncio.Semaphore(config.evaluate.concurrency)
    with Progress(console=Console(stderr=True)) as progress, cache.open("a", encoding="utf8") as stream:
        bar = progress.add_task(f"evaluate {manifest.name}", total=len(rows), completed=len(answers))
        async with httpx.AsyncClient() as client, asyncio.TaskGroup() as group:

            async def one(row: dict[str, Any]) -> None:
                async with places:
                    answers[row["id"]] = await ask(client, base_url, SERVED_NAME, manifest, row, max_new_tokens=config.evaluate.max_new_tokens)
                stream.write(cache_line(row["id"], answers[row["id"]]))
                stream.flush()
                progress.advance(bar)

            for row in rows:
                if row["id"] not in answers:
                    group.create_task(one(row))
    return answers


def write_results(target: Path, scored: list[dict[str, Any]], record: dict[str, Any]) -> None:
    """metrics.json last: it is what says that the evaluation is whole."""
    import pandas

    (target / "metrics.json").unlink(missing_ok=True)
    partial = target / "predictions.parquet.partial"
    pandas.DataFrame(scored).to_parquet(partial, index=False)
    os.replace(partial, target / "predictions.parquet")
    write_atomically(target / "metrics.json", json.dumps(record, indent=2))


def write_atomically(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf8")
    os.replace(partial, path)
