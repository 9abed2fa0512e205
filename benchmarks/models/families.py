"""Family by task: does the merged model answer through the pinned vLLM as the trained one did, and is what the default
scheme makes of it served; or what `check` says before any training.

.venv/bin/python -m benchmarks.models.families                  # every cell; writes the table into docs/training.md
.venv/bin/python -m benchmarks.models.families --only gpt2      # one family's; its rows are kept for the table
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.models.servability import serve
from configs.errors import ConfigError
from configs.loader import load
from configs.paths import RunPaths
from configs.run.config import RunConfig
from configs.task import Task
from tests.support.tiny_families import DECODERS, FAMILIES, make_family, rows_of

ROOT = Path("build/prove/families")
PAGE = Path("docs/training.md")
BLOCK = re.compile(r"(<!-- families: begin[^>]*-->\n).*?(<!-- families: end -->)", re.DOTALL)
CLOSE = 1e-3  # of a probability or a log-probability, both in float32
Row = dict[str, Any]


def cells(only: str | None) -> Iterator[tuple[str, Task]]:
    for name in FAMILIES:
        if only in (None, name):
            if name in DECODERS:
                yield (name, "causal-lm")
            yield (name, "sequence-classification")
            if name not in DECODERS:
                yield (name, "token-classification")


def main(only: str | None) -> int:
    ROOT.mkdir(parents=True, exist_ok=True)
    rows = [make(name, task) for name, task in cells(only)]
    served = serve([release for row in rows for release in row.get("releases", {}).values()])
    failed = [row for row in (keep(judged(row, served)) for row in rows) if row["outcome"] == "failed"]
    text = table()
    PAGE.write_text(BLOCK.sub(lambda found: found[1] + text + found[2], PAGE.read_text(encoding="utf8")), "utf8")
    print(text)
    for row in failed:
        print(f"{row['family']} {row['task']}: {row['reason']}", file=sys.stderr)
    return int(bool(failed))


def keep(row: Row) -> Row:
    path = ROOT / f"{row['family']}-{row['task']}.json"
    path.write_text(json.dumps(row, indent=2) + "\n", encoding="utf8")
    return row


def make(name: str, task: Task) -> Row:
    """Trained once; a release of the merged weights as they are, and one by the default scheme where `check` takes
    it."""
    row: Row = {"family": name, "task": task}
    path = write_run(name, task)
    try:
        plain = load(path, RunConfig, ["quantize.scheme=none"])
    except ConfigError as error:
        return row | {"outcome": "refused", "reason": "; ".join(problem.expected for problem in error.problems)}
    try:
        return row | {"outcome": "made"} | releases_of(plain, path)
    except Exception as error:  # whatever it is, it is this cell's
        return row | {"outcome": "failed", "reason": f"{type(error).__name__}: {error}"[:300]}


def write_run(name: str, task: Task) -> Path:
    folder = ROOT / f"{name}-{task}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    run_name = f"prove-{name}-{task}"
    shutil.rmtree(RunPaths.of(run_name).root, ignore_errors=True)
    make_family(name, folder / run_name)
    lines = [json.dumps(row) for row in rows_of(name, task, 40)]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf8")
    (folder / "gate.yaml").write_text("rules: [{rule: parity}]\n", encoding="utf8")
    run = {
        "name": run_name,
        "task": task,
        "base": {"path": (folder / run_name).as_posix()},
        "data": {
            "source": "files",
            "files": [(folder / "rows.jsonl").as_posix()],
            "validation_rows": 6,
            "test_rows": 10,
            "lint": {"leakage": "keep", "duplicate": "keep"},
        },
        "train": {"max_steps": 2, "batch_size": 4, "eval_every_steps": 2, "lora": {"rank": 4, "alpha": 8}},
        "evaluate": {"max_new_tokens": 4, "parity": {"golden_prompts": 2}},
        "gate": (folder / "gate.yaml").as_posix(),
    }
    path = folder / "run.yaml"
    path.write_text(json.dumps(run), encoding="utf8")
    return path


def releases_of(plain: RunConfig, path: Path) -> Row:
    from train.commands import run_prepare, run_train
    from train.quantize import quantize

    run_prepare(plain)
    run_train(plain)
    paths, found = RunPaths.of(plain.name), Row(releases={})
    for sets in (["quantize.scheme=none"], []):
        try:
            config = load(path, RunConfig, sets)
        except ConfigError as error:
            found["unquantized"] = "; ".join(problem.expected for problem in error.problems)
            continue
        scheme = quantize(config, paths).quantization["scheme"]
        kept = path.parent / scheme
        shutil.copytree(paths.release, kept)
        found["releases"][scheme] = kept.as_posix()
    shutil.rmtree(paths.root)
    return found


def judged(row: Row, served: dict[str, Row]) -> Row:
    """Served with the trainer's own answer; what the default scheme moves is said."""
    if "releases" not in row:
        return row
    found = {scheme: served[release] for scheme, release in row["releases"].items()}
    for scheme, one in found.items():
        if one["outcome"] != "served":
            return row | {"outcome": "failed", "reason": f"{scheme}: {one['reason']}"}
    row["differences"] = {scheme: one["difference"] for scheme, one in found.items()}
    if not row["differences"]["none"] < CLOSE:
        return row | {"outcome": "failed", "reason": f"another answer, by {row['differences']['none']:.3f}"}
    return row | {"outcome": "served"}


def short(reason: str) -> str:
    """Without the list of what would be served."""
    return re.sub(r" \([^)]*\)", "", reason)


def table() -> str:
    """Of every cell that was run so far."""
    found = {
        (row["family"], row["task"]): row for row in (json.loads(file.read_text()) for file in ROOT.glob("*.json"))
    }
    lines = [
        "| family | task | served by vLLM 0.32.0; greatest difference from the trained model | the default scheme |",
        "|---|---|---|---|",
    ]
    for name, task in cells(None):
        row = found.get((name, task), {"outcome": "not run", "reason": "not run"})
        moved = [f"{scheme}, {value:.0e}" for scheme, value in row.get("differences", {}).items()]
        plain = f"{row['outcome']}; {moved[0].split(', ')[1]}" if moved else f"{row['outcome']}: {short(row['reason'])}"
        scheme = f"served; {moved[1]}" if len(moved) > 1 else row.get("unquantized", "not made")
        lines.append(f"| {name} | {task} | {plain} | {scheme} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[sys.argv.index("--only") + 1] if "--only" in sys.argv else None))
