"""Five verdicts of five kinds, by the code that judges a real run: releases are measured, judged and published in a
checkout of their own. Only the model is none: a server whose answers are drawn stands in for vLLM, so the figures say
nothing of any model."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from configs.environment.config import DeployConfig
from configs.paths import RunPaths
from configs.release import Manifest, digest_of, list_files
from configs.run.config import RunConfig
from configs.run.serving import Serving
from configs.verdict import Outcome, Verdict
from infra.vllm.answer import Answer
from infra.vllm.parity import ParityResult

Row = dict[str, Any]
VERSIONS = {"torch": "2.13.0", "transformers": "5.1.0", "vllm": "0.16.0"}
INTENTS = [
    f"{what}_{how}"
    for what in ("card", "transfer", "top_up", "cash", "loan", "fee", "account")
    for how in ["lost", "late", "declined", "limit", "wrong", "pending", "stolen", "cancel", "open", "query", "refund"]
]
WORDS = ["the", "order", "card", "was", "never", "very", "good", "late", "again", "please"]
NO_NUMBERS: Any = {"upper": [], "counts": []}


@dataclass(frozen=True)
class Model:
    """Answers a row rightly where the row's difficulty lies below `skill`, but for a share `noise` that is drawn anew;
    `weak`: label to the skill there. `made`: when it was made; `config`: what of its run's config is another."""

    skill: float
    noise: float = 0.03
    seed: int = 1
    weak: dict[str, float] = field(default_factory=dict)
    made: str = "2026-11-20T09:00:00+00:00"
    config: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=VERSIONS.copy)
    train_rows: int = 4000
    milliseconds: float = 12.0


@dataclass(frozen=True)
class Case:
    """`releases`: those published before, oldest first, the last of them the champion; then the one to be judged."""

    name: str
    expected: Outcome
    labels: list[str]  # none: function calls
    n: int
    releases: list[Model]
    judged: Model
    base: Model | None = None
    has_parent: bool = False


CASES = {
    "pass": Case(
        "sentiment", "pass", ["negative", "positive"], 900,
        [Model(0.9, seed=2, made="2026-09-14T09:00:00+00:00"), Model(0.925, seed=3, made="2026-10-20T09:00:00+00:00")],
        Model(0.945, config={"train": {"epochs": 3}}, train_rows=4600),
        has_parent=True,
    ),
    "fail": Case(
        "calls-v2", "fail", [], 80,
        [Model(0.62, seed=2, made="2026-10-20T09:00:00+00:00", milliseconds=420)],
        Model(0.27, config={"data": {"corrupt": "shuffle_answers"}, "train": {"epochs": 1}}, milliseconds=430),
        base=Model(0.02, seed=4, milliseconds=400),
    ),
    "inconclusive": Case(
        "tickets", "inconclusive", ["billing", "delivery", "other", "refund", "technical"], 400,
        [Model(0.9, seed=2, made="2026-11-02T09:00:00+00:00")],
        Model(0.88, noise=0.1, versions=VERSIONS | {"transformers": "5.2.0", "vllm": "0.16.1"}),
    ),
    "first": Case("toxicity", "pass", ["fine", "toxic"], 400, [], Model(0.94)),
    "labels": Case(
        "intents", "fail", INTENTS, 770,
        [Model(0.93, seed=5, made="2026-09-01T09:00:00+00:00"), Model(0.94, seed=2, made="2026-10-10T09:00:00+00:00")],
        Model(
            0.89, weak={"card_lost": 0.2, "fee_refund": 0.3, "loan_query": 0.5},
            config={"data": {"max_rows": 3000}}, train_rows=3000,
        ),
    ),
}  # fmt: skip
GATES = {
    "classifier": """rules:
  - {rule: threshold, metric: accuracy, minimum: 0.8}
  - {rule: non_inferior_to, reference: champion, metric: accuracy, margin: 0.03}
  - {rule: slice_minimum, reference: champion, metric: accuracy, margin: 0.15, slices: ['length*', 'label=*']}
  - {rule: parity}
""",
    "calls": """rules:
  - {rule: threshold, metric: exact_match, minimum: 0.1}
  - {rule: threshold, metric: valid_json, minimum: 0.5}
  - {rule: non_inferior_to, reference: champion, metric: exact_match, margin: 0.05}
  - {rule: non_inferior_to, reference: base, metric: exact_match, margin: 0}
  - {rule: parity}
""",
}


def make(kind: str, folder: Path) -> tuple[Verdict, Path]:
    """The verdict of `CASES[kind]` and its report.html, in the checkout `folder`, which is begun anew. Raises
    SystemExit where the verdict is another than expected."""
    case = CASES[kind]
    with checkout(folder), served(case):
        champion = None
        for model in case.releases:
            judge(case, model, champion)
            champion = publish(case)
        verdict = judge(case, case.judged, champion)
    if verdict.outcome != case.expected:
        told = "\n".join(f"  {one.outcome}  {one.rule}: {one.sentence}" for one in verdict.results)
        raise SystemExit(f"{kind}: found the verdict {verdict.outcome}, expected {case.expected}\n{told}")
    return verdict, folder / "build" / case.name / "gate" / "report.html"


@contextmanager
def checkout(folder: Path) -> Iterator[None]:
    from dvc.repo import Repo

    shutil.rmtree(folder, ignore_errors=True)
    gates = folder / "configs" / "gates"
    gates.mkdir(parents=True)
    for name, text in GATES.items():
        (gates / f"{name}.yaml").write_text(text, encoding="utf8")
    Repo.init(str(folder), no_scm=True).close()
    (folder / ".dvc" / "config").write_text(
        "[core]\n    no_scm = true\n    remote = store\n['remote \"store\"']\n    url = ../store\n"
    )
    with contextlib.chdir(folder):
        yield


def judge(case: Case, model: Model, champion: str | None) -> Verdict:
    """Measured beside the champion, as `tunegate evaluate` does, and judged, as `tunegate gate` does."""
    from eval.evaluate import evaluate
    from eval.gate import run_gate

    paths, config = RunPaths.of(case.name), config_of(case, model)
    shutil.rmtree(paths.root, ignore_errors=True)
    write_rows(case, paths, model)
    made_of = {"base": f"sha256:{'d' * 64}", "parent": ""}
    if case.base:
        made_of["base"] = write_release(case, config.base.folder, "base", case.base)
    if case.has_parent:
        parent = replace(model, seed=model.seed + 100, noise=0.004)
        made_of["parent"] = write_release(case, paths.parent, "parent", parent)
    write_release(case, paths.release, case.name, model, **made_of)
    environment = DeployConfig(name=case.name, model=case.name, release=champion, gate=None)
    evaluate(config, paths, environment)
    return run_gate(config, paths, environment)


def publish(case: Case) -> str:
    from configs.release import read_manifest
    from infra.dvc.publish import publish as publish_release

    return read_manifest(publish_release(RunPaths.of(case.name)) / "release").reference


def config_of(case: Case, model: Model) -> RunConfig:
    sections: dict[str, Any] = {
        "name": case.name,
        "task": "sequence-classification" if case.labels else "causal-lm",
        "base": {"path": "build/base/drawn"},
        "data": {"source": "files", "files": ["rows.jsonl"]},
        "train": {"epochs": 2},
        "evaluate": {"baseline": case.base is not None, "parity": {"golden_prompts": 16}},
        "quantize": {"compare_parent": case.has_parent},
        "gate": f"configs/gates/{'classifier' if case.labels else 'calls'}.yaml",
    }
    for name, section in model.config.items():
        sections[name] = sections.get(name, {}) | section
    return RunConfig.model_validate(sections)


def write_rows(case: Case, paths: RunPaths, model: Model) -> None:
    import pandas

    rows = [row_of(case, number) for number in range(case.n)]
    paths.data.mkdir(parents=True)
    pandas.DataFrame(rows).to_parquet(paths.data / "test.parquet")
    (paths.data / "data_card.json").write_text(json.dumps({"test_fingerprint": f"sha256:{case.name}-{case.n}"}))
    (paths.root / "trained").mkdir()


def row_of(case: Case, number: int) -> Row:
    draw = random.Random(f"{case.name} {number}")
    words = " ".join(draw.choices(WORDS, k=draw.randint(4, 30)))
    if case.labels:
        return {"id": f"row-{number:04}", "text": f"{words}.", "label": case.labels[number % len(case.labels)]}
    name, city = (
        draw.choice(["get_weather", "book_table", "find_route"]),
        draw.choice(["Rome", "Oslo", "Lima", "Cairo"]),
    )
    reference = json.dumps({"name": name, "accepted": {"city": [city]}})
    turns = [
        {"role": "user", "content": f"{name.replace('_', ' ')} in {city}: {words}"},
        {"role": "assistant", "content": reference},
    ]
    return {"id": f"row-{number:04}", "messages": turns, "reference": reference}


def write_release(case: Case, folder: Path, name: str, model: Model, base: str = "", parent: str = "") -> str:
    """Its digest, by which the model that answers in its stead is known: a few bytes stand in place of weights. `base`,
    `parent`: the digests of what it was made of."""
    folder.mkdir(parents=True, exist_ok=True)
    size = 11_000_000 if name == "parent" else 3_000_000
    (folder / "model.safetensors").write_bytes(random.Random(f"{name} {model}").randbytes(size))
    (folder / "golden.jsonl").write_text("{}\n")
    counts = {label: model.train_rows // len(case.labels) for label in case.labels}
    summary = {"rows": model.train_rows, "labels": counts, "sources": {}, "vocabulary": []}
    summary |= {"words": NO_NUMBERS, "values": NO_NUMBERS}
    (folder / "data_card.json").write_text(
        json.dumps({"fingerprint": f"sha256:{model.train_rows}", "summary": summary})
    )
    files = list_files(folder)
    manifest = Manifest(
        name=name,
        digest=digest_of(files),
        task="sequence-classification" if case.labels else "causal-lm",
        files=files,
        serving=Serving(),
        labels=case.labels,
        base={"path": "build/base/drawn", "digest": base},
        data={"fingerprint": f"sha256:{model.train_rows}", "test_fingerprint": f"sha256:{case.name}-{case.n}"},
        quantization={"scheme": "int8"} | ({"parent_digest": parent} if parent else {}),
        git_revision="drawn",
        versions=model.versions,
        config=config_of(case, model).model_dump(mode="json"),
        created=model.made,
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json(), encoding="utf8")
    MODELS[manifest.digest] = model
    return manifest.digest


MODELS: dict[str, Model] = {}


@contextmanager
def served(case: Case) -> Iterator[None]:
    """The models in place of vLLM, at its seam."""

    async def ask(client: Any, url: str, name: str, manifest: Manifest, row: Row, **settings: Any) -> Answer:
        return answer_of(case, MODELS[manifest.digest], row)

    @contextmanager
    def slot(release: Path, manifest: Manifest, **settings: Any) -> Iterator[str]:
        yield "http://drawn"

    with contextlib.ExitStack() as stack:
        for place, fake in (
            ("eval.measure.answers.ask", ask),
            ("eval.measure.parent.ask", ask),
            ("eval.evaluate.temporary_slot", slot),
            ("eval.evaluate.check_parity", lambda *_: ParityResult(0.98, 0.004, 16, True)),
        ):
            stack.enter_context(patch(place, fake))
        MODELS.clear()
        yield


def answer_of(case: Case, model: Model, row: Row) -> Answer:
    draw = random.Random(f"{model.seed} {row['id']}")
    difficulty = random.Random(row["id"]).random() if draw.random() >= model.noise else draw.random()
    gold = str(row.get("label", ""))
    right = difficulty < model.weak.get(gold, model.skill)
    seconds = draw.lognormvariate(0, 0.3) * model.milliseconds / 1000
    if case.labels:
        return classified(case.labels, gold, right, draw, seconds)
    call = json.loads(row["reference"])
    told = json.dumps({"name": call["name"], "arguments": {"city": call["accepted"]["city"][0] if right else "Paris"}})
    text = told if right or draw.random() < model.skill + 0.3 else f"I would call {call['name']}."
    return Answer(text, None, None, -0.1, seconds, draw.randint(12, 20), prompt_tokens=60)


def classified(labels: list[str], gold: str, right: bool, draw: random.Random, seconds: float) -> Answer:
    """A wrong answer is the neighbouring label, mostly."""
    neighbour = labels[(labels.index(gold) + 1) % len(labels)]
    label = gold if right else neighbour if draw.random() < 0.8 else draw.choice([one for one in labels if one != gold])
    sure = 1 - (1 - 1 / len(labels)) * draw.betavariate(2, 18 if right else 5)
    probs = {one: sure if one == label else (1 - sure) / (len(labels) - 1) for one in labels}
    return Answer(label, label, probs, None, seconds, 0, prompt_tokens=20)
