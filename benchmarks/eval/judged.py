"""A planted change judged by a shipped gate: a good release, its changed copy, the copy's evaluation and the verdict,
which is kept so that a killed run goes on where it was."""

from __future__ import annotations

import json
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.eval.plant import Change
from benchmarks.eval.plant_answers import AnswerChange
from benchmarks.prove import FOLDER, console, machine, tunegate
from configs.environment.config import DeployConfig
from configs.errors import TunegateError
from configs.loader import load
from configs.paths import RunPaths
from configs.release import MANIFEST, digest_of, list_files, read_manifest
from configs.run.config import RunConfig
from configs.verdict import Verdict
from infra.files.atomic import write_text
from infra.git.command import head_revision


@dataclass(frozen=True)
class Case:
    """`change`: of the release's bytes; `answers`: of what the good release said. `hoped`: the kinds of rules of which
    one at least should refuse it; "served": it cannot even be asked, so that no rule is."""

    name: str
    family: str
    change: Change | None = None
    hoped: tuple[str, ...] = ()
    answers: AnswerChange | None = None

    @property
    def title(self) -> str:
        return f"{self.family}, {self.name}"

    @property
    def run(self) -> str:
        return "prove-" + re.sub(r"[^a-z0-9]+", "-", f"{self.family} {self.name}".lower())[:48].strip("-")


class Family(NamedTuple):
    """The shipped run that its releases are of, what is measured beside, and the gate where it is not the run's own."""

    run: str
    evaluate: dict[str, Any] | None = None
    gate: str | None = None
    trained_as: str | None = None  # another family whose trained release this is


HARNESS = {"task": "common_choice", "include_path": "benchmarks/eval/tasks"}
FAMILIES = {
    "sentiment": Family("sentiment"),
    "calls": Family("calls-v2"),
    "forgetting": Family("calls-v2", {"harness": [HARNESS]}, "configs/gates/forgetting.yaml", "calls"),
}


class Judged(NamedTuple):
    """The verdict's outcome, and the kinds of the rules that did not pass."""

    outcome: str
    kinds: list[str]
    seconds: float


def good_config(family: str, name: str = "") -> RunConfig:
    """The shipped config, and with it the shipped gate, under another name, as a file of its own."""
    from ruamel.yaml import YAML

    found = FAMILIES[family]
    config = YAML(typ="safe").load(Path(f"configs/finetune/{found.run}.yaml").read_text(encoding="utf8"))
    config |= {"name": name or f"prove-good-{family}", "evaluate": config.get("evaluate", {}) | (found.evaluate or {})}
    config |= {"gate": found.gate} if found.gate else {}
    path = FOLDER / f"good-{family}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config), encoding="utf8")  # JSON is YAML
    return load(path, RunConfig)


def train_good(family: str, variant: str = "", *sets: str) -> None:
    """From data to an evaluated release that passes; a variant stops at its release."""
    name = f"prove-good-{family}{'-' + variant if variant else ''}"
    twin = FAMILIES[family].trained_as
    if twin and not Path(f"build/prove-good-{twin}/trained").exists():
        train_good(twin)
    good_config(family, name)
    words = [str(FOLDER / f"good-{family}.yaml"), *(word for one in sets for word in ("--set", one))]
    for stage in ("prepare", "train", "quantize") if variant else ("prepare", "train", "quantize", "evaluate"):
        if stage == "train" and (variant == "again" or twin):
            source = f"build/prove-good-{twin or family}/trained"
            shutil.copytree(source, f"build/{name}/trained", dirs_exist_ok=True)
        tunegate(stage, *words)


def judge_kept(case: Case) -> Judged:
    """As this very commit judged it on this machine, else anew."""
    path, here = FOLDER / "regressions" / f"{case.run}.json", f"{head_revision()} on {machine()}"
    found = json.loads(path.read_text(encoding="utf8")) if path.exists() else {}
    if found.get("here") == here and "-dirty" not in here and not here.startswith("unknown"):
        return Judged(*found["judged"])
    judged = judge_case(case)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"here": here, "judged": judged}))
    return judged


def judge_case(case: Case) -> Judged:
    """Its weights are taken away afterwards; its evaluation, with the verdict, stays."""
    started = time.monotonic()
    good, paths = RunPaths.of(f"prove-good-{case.family}"), RunPaths.of(case.run)
    champion = copy_changed(case, good, paths)
    try:
        verdict = evaluate_and_judge(case, good, paths, champion)
        outcome, kinds = verdict.outcome, [one.evidence["kind"] for one in verdict.results if one.outcome != "pass"]
        write_text(paths.evaluation / "verdict.json", verdict.model_dump_json(indent=1))
    except TunegateError as error:
        console.print(f"{case.title}: {error.message[:200]}", markup=False)
        outcome, kinds = "fail", ["served"]
    for folder in (paths.release, paths.parent):
        shutil.rmtree(folder, ignore_errors=True)
    return Judged(outcome, kinds, time.monotonic() - started)


def copy_changed(case: Case, good: RunPaths, paths: RunPaths) -> DeployConfig:
    """The good release's folder, changed, and signed anew so that only the gate stands in the way; what is serving is
    the good one."""
    shutil.rmtree(paths.root, ignore_errors=True)
    shutil.copytree(good.data, paths.data)
    shutil.copytree(good.release, paths.release)
    if good.parent.exists():
        shutil.copytree(good.parent, paths.parent)
    if case.change is not None:
        case.change(paths.release, good)
    else:  # other bytes, so that it is not taken for the good one
        with (paths.release / "README.md").open("a", encoding="utf8") as card:
            card.write(f"\n{case.name}\n")
    sign(paths.release, case.run)
    return DeployConfig(name="prove", model="prove", release=read_manifest(good.release).reference, gate=None)


def evaluate_and_judge(case: Case, good: RunPaths, paths: RunPaths, champion: DeployConfig) -> Verdict:
    """Each is an experiment of its own: the first look at its test rows."""
    from eval.evaluate import evaluate
    from eval.gate import at_look, named_in, read_rules
    from eval.rules.decide import decide
    from eval.rules.evidence import gather

    config = good_config(case.family, case.run)
    if case.answers is not None:
        score_changed(case.answers, config, good, paths)
    else:
        evaluate(config, paths, champion)
    rules = read_rules(Path(config.gate))
    return decide(at_look(rules, 1), gather(paths, champion, named_in(rules)))


def score_changed(change: AnswerChange, config: RunConfig, good: RunPaths, paths: RunPaths) -> None:
    """The good release's evaluation with other answers to its rows; what else it was asked stays as it was."""
    from eval.evaluate import Asked, Subject, score_answers, summarise_release
    from eval.measure.answers import Answers, read_line, write_line
    from eval.measure.cache import answers_key, conditions_of, evaluation_key, write_metrics
    from eval.measure.rows import dataset_of, read_ids
    from eval.measure.slices import make_slicer

    shutil.copytree(good.evaluation, paths.evaluation)
    record = json.loads((good.evaluation / "metrics.json").read_text(encoding="utf8"))
    manifest, dataset = read_manifest(paths.release), dataset_of(paths)
    kept = good.root / "answers" / f"{answers_key(read_manifest(good.release).digest, dataset, config)}.jsonl"
    changed = paths.root / "answers" / "changed.jsonl"
    changed.parent.mkdir()
    with kept.open("rb") as lines, changed.open("wb") as target:
        for number, identity, answer in map(read_line, lines):
            target.write(write_line(number, identity, change(number, answer)))
    subject = Subject(paths.release, manifest, paths.data / "test.parquet", paths.evaluation, [])
    answers = Answers.open(changed, read_ids(subject.test))
    slicer = make_slicer(config.evaluate.slice_definitions, subject.rows())
    predictions = score_answers(subject, answers, config.evaluate, slicer)
    asked = Asked(answers, record["parity"], record["behaviour"], record["harness"], None)
    found = summarise_release(subject, asked, predictions, dataset, config.evaluate)
    found["key"], found["conditions"] = evaluation_key(manifest.digest, dataset, config), conditions_of(dataset, config)
    write_metrics(paths.evaluation, found)


def sign(release: Path, name: str) -> None:
    """A manifest that fits the changed bytes: whoever changed them would have written one too."""
    manifest, files = read_manifest(release), list_files(release)
    signed = manifest.model_copy(update={"name": name, "files": files, "digest": digest_of(files)})
    (release / MANIFEST).write_text(signed.model_dump_json(), encoding="utf8")
