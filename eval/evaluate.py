"""Measures a release through vLLM, with production's own arguments: predictions.parquet and metrics.json."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from configs.environment.config import DeployConfig
from configs.errors import InputError
from configs.metrics import BehaviourFigures, HarnessFigures, Metrics, ParityFigures, read_metrics
from configs.paths import RunPaths
from configs.release import MANIFEST, Manifest, read_manifest
from configs.run.config import RunConfig
from configs.run.evaluate import Evaluate
from configs.run.metrics import REPORTED
from eval.behaviour.figures import samples_of_outcomes
from eval.behaviour.run import make_asker, run_behaviour_tests
from eval.measure import cache
from eval.measure.answers import Answers, ask_all, encoded
from eval.measure.cache import answers_key, conditions_of, evaluation_key, write_metrics
from eval.measure.digest import json_digest
from eval.measure.folds import Fold, count_seen, read_folds
from eval.measure.harness import definitions_of_harness, figures_of, run_harness, samples_of_harness
from eval.measure.judge_model import judge_rows, of_judge, scores_of
from eval.measure.parent import compare, probe, rows_to_probe, write_card
from eval.measure.predictions import write_predictions
from eval.measure.references import measure_references
from eval.measure.rows import cluster_of, dataset_of, groups_of, question_of, read_ids, read_rows
from eval.measure.slices import make_slicer
from eval.metrics.aggregate import summarise
from eval.metrics.cost import cost, size_of
from eval.metrics.generation import definition_of_length
from eval.metrics.own import load_own, own_definition, own_name
from eval.metrics.rows import Prediction, Row
from eval.metrics.samples import FILE as SAMPLES
from eval.metrics.samples import samples_of_predictions, write_samples
from eval.metrics.score import kind_of, score
from eval.metrics.sketch import SKETCH, sketch_of
from infra.files.atomic import write_text
from infra.files.hashes import verify_known
from infra.terminal import waiting
from infra.tokenizer import with_tokens
from infra.vllm.answer import Answer
from infra.vllm.parity import check_parity
from infra.vllm.server import peak_memory_bytes, temporary_slot

SERVED_NAME = "release"
START_SECONDS = 40  # that vLLM takes to start on a small model, for those who wait


@dataclass(frozen=True)
class Subject:
    """What is measured: a release, on the rows of the file `test`, into the folder `target`. `folds`: who answers the
    rows instead; empty: the release does."""

    release: Path
    manifest: Manifest
    test: Path
    target: Path
    folds: list[Fold]

    def rows(self) -> Iterator[Row]:
        return read_rows(self.test)


@dataclass(frozen=True)
class Asked:
    """All that needed the server."""

    answers: Answers
    parity: ParityFigures | None
    behaviour: dict[str, BehaviourFigures]
    harness: dict[str, HarnessFigures]
    peak_memory_bytes: int | None


def evaluate(
    config: RunConfig,
    paths: RunPaths,
    production: DeployConfig | None = None,
    make_folds: Callable[[RunConfig], None] | None = None,
) -> Metrics:
    """The contents of metrics.json. Raises RefusedError on wrong bytes, InputError without data, ExternalError if vLLM
    fails.

    Beside it the base and the parent where the config asks for them, and the releases that its gate compares with, the
    one in `production` first. `make_folds`: trains and quantizes the models of evaluate.folds, those that stand not
    again.
    """
    target = paths.evaluation
    drop_stale(config, paths, target)

    def answering(kind: str) -> Callable[[], list[Fold]] | None:
        def folds() -> list[Fold]:
            (make_folds or no_folds)(config)
            return read_folds(config, paths, kind)

        return folds if config.evaluate.folds else None

    record = measure(config, paths, paths.release, target, probed=paths.parent.exists(), answering=answering("release"))
    if paths.parent.exists():
        parent = measure(config, paths, paths.parent, target / "parent", probed=True, answering=answering("parent"))
        compared = compare(record, parent, target)
        record["metrics"] |= compared
        record["compared"] = sorted(compared)
        write_text(target / "card.md", write_card(record, parent, config))
    else:
        (target / "card.md").unlink(missing_ok=True)
    write_metrics(target, record)
    if config.evaluate.baseline:
        measure(config, paths, config.base.folder, target / "base")
    if production is not None:
        measure_references(
            config,
            dataset_of(paths),
            production,
            target,
            lambda release, folder: measure(config, paths, release, folder),
        )
    if config.evaluate.folds and production is not None and production.release:
        record["folds"]["champion_trained_on"] = count_seen(production.release, read_rows(paths.data / "test.parquet"))
        write_metrics(target, record)
    return record


def no_folds(config: RunConfig) -> None:
    raise InputError(f"{config.name}: nobody trains evaluate.folds", hint="tunegate evaluate CONFIG")


def drop_stale(config: RunConfig, paths: RunPaths, target: Path) -> None:
    """The parent's and the base's evaluation where they are not of this release: before anything of it is written, so
    that a kill leaves none beside it."""
    dataset = dataset_of(paths)
    wanted = {"parent": paths.parent, "base": config.base.folder if config.evaluate.baseline else None}
    for name, folder in wanted.items():
        here = folder is not None and (folder / MANIFEST).exists()
        by_folds = name == "parent" and config.evaluate.folds is not None
        key = evaluation_key(read_manifest(folder).digest, dataset, config, by_folds) if folder and here else None
        record = read_metrics(target / name)
        if key is None or record is None or record.get("key") != key:
            shutil.rmtree(target / name, ignore_errors=True)


def measure(
    config: RunConfig,
    paths: RunPaths,
    release: Path,
    target: Path,
    *,
    probed: bool = False,
    answering: Callable[[], list[Fold]] | None = None,
) -> Metrics:
    """One release, one set of rows; what was measured anywhere is not measured again, what was asked here is not asked
    again.

    `probed`: also what a comparison with the parent needs. `answering`: the models that answer the rows instead of the
    release, which has been trained on them.
    """
    with waiting(f"the bytes of {release} are checked"):
        manifest = verify_known(release)
    dataset, settings = dataset_of(paths), config.evaluate
    key = evaluation_key(manifest.digest, dataset, config, answering is not None)
    finished = cache.get(key, target, manifest.reference, probed)
    if finished is not None:
        return finished
    subject = Subject(release, manifest, paths.data / "test.parquet", target, answering() if answering else [])
    made = [verify_known(fold.release) for fold in subject.folds]
    digest = json_digest([manifest.digest, *(one.digest for one in made)]) if made else manifest.digest
    kept = paths.root / "answers" / f"{answers_key(digest, dataset, config)}.jsonl"
    answers = Answers.open(kept, read_ids(subject.test))
    # Before any server starts: slices that cannot be made are an error of the config.
    slicer = make_slicer(settings.slice_definitions, subject.rows())
    target.mkdir(parents=True, exist_ok=True)
    for stale in ("metrics.json", "probe.json"):
        (target / stale).unlink(missing_ok=True)
    asked = ask_release(subject, answers, config, probed)
    predictions = score_answers(subject, asked.answers, settings, slicer)
    record = summarise_release(subject, asked, predictions, dataset, settings)
    record["key"], record["conditions"] = key, conditions_of(dataset, config)
    if made:
        rows = [len(fold.ids) for fold in subject.folds]
        record["folds"] = {"releases": [one.reference for one in made], "rows": rows}
    write_text(target / SKETCH, json.dumps({"sketch": sketch_of(map(question_of, subject.rows()))}))
    write_metrics(target, record)
    cache.put(key, target)
    return record


def ask_release(subject: Subject, answers: Answers, config: RunConfig, probed: bool) -> Asked:
    """Starts a server and asks it everything: the rows without an answer, the golden prompts, behaviour tests, the
    harness; with `probed` also what probe.json holds."""
    manifest, release, settings = subject.manifest, subject.release, config.evaluate
    log = subject.target / "vllm.log"
    for fold in subject.folds:
        ask_fold(subject, fold, answers, settings)
    with ExitStack() as stack:
        with waiting("vLLM starts", START_SECONDS):
            base_url = stack.enter_context(temporary_slot(release, manifest, served_name=SERVED_NAME, log=log))
        if not subject.folds:
            missing = encoded(manifest, release, answers.missing(subject.rows()), settings.perplexity)
            ask_all(base_url, SERVED_NAME, manifest, missing, answers, settings)
        parity = measure_parity(base_url, subject)
        if probed:
            drawn = with_tokens(manifest, release, rows_to_probe(subject.rows))
            with waiting(f"speed and distributions of {len(drawn)} rows are measured"):
                found = probe(base_url, SERVED_NAME, manifest, drawn, config)
            write_text(subject.target / "probe.json", found.as_json())
        ask = make_asker(base_url, SERVED_NAME, manifest, release, answers.path.parent, settings)
        behaviour = run_behaviour_tests(settings, manifest, subject.rows, answers.at, ask, subject.target)
        harness = run_harness(base_url, SERVED_NAME, manifest, release, settings, subject.target)
        return Asked(answers, parity, behaviour, harness, peak_memory_bytes(log))


def ask_fold(subject: Subject, fold: Fold, answers: Answers, settings: Evaluate) -> None:
    """Starts a server of the fold's own where a row that it holds out has no answer yet."""
    missing = [(number, row) for number, row in answers.missing(subject.rows()) if row["id"] in fold.ids]
    if not missing:
        return
    manifest, log = read_manifest(fold.release), subject.target / f"vllm-fold-{fold.number}.log"
    with ExitStack() as stack:
        with waiting(f"vLLM starts with the model of fold {fold.number}", START_SECONDS):
            base_url = stack.enter_context(temporary_slot(fold.release, manifest, served_name=SERVED_NAME, log=log))
        rows = encoded(manifest, fold.release, missing, settings.perplexity)
        ask_all(base_url, SERVED_NAME, manifest, rows, answers, settings)


def measure_parity(base_url: str, subject: Subject) -> ParityFigures | None:
    """None for a release without golden prompts. A difference that is no number is None: JSON knows no NaN."""
    if not (subject.release / "golden.jsonl").exists():
        return None
    with waiting("golden prompts are asked"):
        found = check_parity(base_url, SERVED_NAME, subject.release, subject.manifest)
    return {
        "agreement": found.agreement,
        "difference": found.difference if math.isfinite(found.difference) else None,
        "prompts": found.prompts,
        "passed": found.passed,
    }


def score_answers(subject: Subject, answers: Answers, settings: Evaluate, slicer: Callable[[Row], list[str]]) -> Path:
    """predictions.parquet: a line a test row, in the rows' order. A judge model, where there is one, is asked first."""
    judged = judge_rows(settings.judge, subject.rows(), answers.at, subject.target) if settings.judge else {}
    own = load_own(settings.metrics)
    fold_of = {identity: str(fold.number) for fold in subject.folds for identity in fold.ids}

    def predict(row: Row, answer: Answer) -> Prediction:
        scored = score(subject.manifest.task, row, answer, settings, subject.manifest.labels)
        cluster: Any = {"cluster": cluster_of(row, settings.cluster)} if settings.cluster else {}
        groups: Any = groups_of(row, settings.groups)
        held: Any = {"fold": fold_of[row["id"]]} if fold_of else {}
        more: Any = {**scores_of(judged, row["id"]), **own(row, answer.text), **groups}
        return {**scored, **cluster, **held, **more, "slices": slicer(row)}

    rows = zip(subject.rows(), answers.in_order(), strict=True)
    with waiting("the answers are scored"):
        return write_predictions(subject.target, (predict(row, answer) for row, answer in rows))


def summarise_release(subject: Subject, asked: Asked, predictions: Path, dataset: str, settings: Evaluate) -> Metrics:
    """metrics.json but for the cache's key."""
    manifest, target = subject.manifest, subject.target
    kind = kind_of(manifest.task, next(subject.rows()))
    own = {own_name(one): own_definition(one) for one in settings.metrics}
    length = {"answer_tokens": definition_of_length(settings)} if kind == "answer" else {}
    with waiting("the figures are counted"):
        figures = summarise(predictions, kind, settings.minimum_slice, [*own])
        samples = chain(
            samples_of_predictions(predictions, [*REPORTED[kind], *own]),
            samples_of_outcomes(target / "behaviour.parquet"),
            samples_of_harness(manifest, settings, target),
        )
        write_samples(target / SAMPLES, samples)
    return {
        "release": subject.manifest.reference,
        "dataset": dataset,
        "n": len(asked.answers.ids),
        "metrics": figures["metrics"] | figures_of(asked.harness),
        "classes": figures["classes"],
        "slices": figures["slices"],
        "parity": asked.parity,
        "size_bytes": size_of(subject.manifest),
        "behaviour": asked.behaviour,
        "harness": asked.harness,
        "cost": cost(predictions, subject.manifest, asked.peak_memory_bytes),
        "definitions": own | of_judge(settings.judge) | definitions_of_harness(manifest, settings, target) | length,
    }
