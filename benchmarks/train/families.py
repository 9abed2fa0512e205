"""Family by task: does the merged model answer as the trained one, is it quantized by the default scheme, and does the
pinned vLLM serve it; or what `check` says before any training.

.venv/bin/python -m benchmarks.train.families                  # every cell; writes the table into docs/training.md
.venv/bin/python -m benchmarks.train.families --only gpt2      # one family's; its rows are kept for the table
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.train.servability import serve
from configs.errors import ConfigError
from configs.loader import load
from configs.paths import RunPaths
from configs.run.config import RunConfig
from configs.task import Task
from tests.support.tiny_families import DECODERS, FAMILIES, make_family, rows_of

ROOT = Path("build/prove/families")
PAGE = Path("docs/training.md")
BLOCK = re.compile(r"(<!-- families: begin[^>]*-->\n).*?(<!-- families: end -->)", re.DOTALL)
CLOSE = 0.1  # int8 on a random model moves a probability or a log-probability by less
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
    rows = [keep(make(name, task)) for name, task in cells(only)]
    served = serve([row["release"] for row in rows if "release" in row])
    rows = [keep(row | judged(served[row["release"]])) if "release" in row else row for row in rows]
    text = table()
    PAGE.write_text(BLOCK.sub(lambda found: found[1] + text + found[2], PAGE.read_text(encoding="utf8")), "utf8")
    print(text)
    return int(any(row["outcome"] == "failed" for row in rows))


def keep(row: Row) -> Row:
    path = ROOT / f"{row['family']}-{row['task']}.json"
    path.write_text(json.dumps(row, indent=2) + "\n", encoding="utf8")
    return row


def make(name: str, task: Task) -> Row:
    """Trained, merged and quantized by the default scheme; GPT-2, of which `check` refuses that, without any."""
    row: Row = {"family": name, "task": task}
    path = write_run(name, task)
    try:
        try:
            config = load(path, RunConfig)
        except ConfigError as error:
            row["reason"] = "; ".join(problem.expected for problem in error.problems)
            config = load(path, RunConfig, ["quantize.scheme=none"])
        return row | release_of(config, path)
    except ConfigError:
        return row | {"outcome": "refused"}
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


def release_of(config: RunConfig, path: Path) -> Row:
    from train.commands import run_prepare, run_train
    from train.quantize import quantize

    run_prepare(config)
    run_train(config)
    paths = RunPaths.of(config.name)
    manifest = quantize(config, paths)
    kept = path.parent / "release"
    shutil.copytree(paths.release, kept)
    shutil.rmtree(paths.root)
    return {"scheme": manifest.quantization["scheme"], "release": kept.as_posix(), "outcome": "not asked"}


def judged(found: Row) -> Row:
    """Served, and with the trainer's own answer."""
    if found["outcome"] == "served" and not found["difference"] < CLOSE:
        return found | {"outcome": "failed", "reason": f"another answer, by {found['difference']:.3f}"}
    return found


def table() -> str:
    """Of every cell that was run so far."""
    found = {
        (row["family"], row["task"]): row for row in (json.loads(file.read_text()) for file in ROOT.glob("*.json"))
    }
    lines = ["| family | task | made | vLLM 0.32.0 |", "|---|---|---|---|"]
    for name, task in cells(None):
        row = found.get((name, task), {"outcome": "not run"})
        made = f"trained, merged, {row['scheme']}" if "scheme" in row else "nothing: refused by `check`"
        made = "not run" if row["outcome"] == "not run" else made
        by = f", by {row['difference']:.1e}" if "difference" in row else ""
        reason = f": {row['reason']}" if "reason" in row and row["outcome"] != "served" else ""
        lines.append(f"| {name} | {task} | {made} | {row['outcome']}{by}{reason} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[sys.argv.index("--only") + 1] if "--only" in sys.argv else None))
