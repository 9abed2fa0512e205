"""What the training room promises, measured: the checks of `make prove-train` (benchmarks/prove.py)."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.prove import Check, Row, console, run, tested, tunegate
from benchmarks.train.quality import calls_quality, sentiment_quality
from benchmarks.train.speed import speed

PYTHON = sys.executable
KILLS = 5


def resume() -> list[Row]:
    """`kill -9` at random steps, dropout on: the final adapter's bytes are those of the training that was never
    killed."""
    source = json.dumps(
        {"max_steps": 30, "batch_size": 16, "learning_rate": 1e-3, "eval_every_steps": 5, "lora": {"dropout": 0.1}}
    )
    straight = train_named("prove-straight", source)
    generator = random.Random(17)
    steps = sorted(generator.sample(range(2, 30), KILLS))
    equal = [train_named(f"prove-killed-{step}", source, step) == straight for step in steps]
    return [
        Row(
            f"adapters equal after kill -9 at steps {', '.join(map(str, steps))}",
            f"{sum(equal)} of {KILLS}",
            f"{KILLS} of {KILLS}",
            all(equal),
        )
    ]


def train_named(name: str, settings: str, kill_at: int | None = None) -> str:
    """sha256 of the adapter of a small classifier's training, killed once at the step."""
    shutil.rmtree(Path("build") / name, ignore_errors=True)
    arguments = ["configs/finetune/smoke.yaml", "--set", f"name={name}", "--set", f"train={settings}"]
    tunegate("prepare", *arguments)
    if kill_at is not None:
        kill_training(["train", *arguments], Path("build") / name / "tracking/metrics.jsonl", kill_at)
    tunegate("train", *arguments)
    return hashlib.sha256((Path("build") / name / "trained/adapter_model.safetensors").read_bytes()).hexdigest()


def kill_training(arguments: list[str], record: Path, step: int) -> None:
    process = subprocess.Popen([str(Path(PYTHON).with_name("tunegate")), *arguments], stdout=subprocess.DEVNULL)
    while process.poll() is None and f'"step": {step}' not in (
        record.read_text(encoding="utf8") if record.exists() else ""
    ):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
        raise RuntimeError(f"training ended before it could be killed at step {step}")
    console.print(f"killed {arguments[-3]} at step {step}")


def trained_and_served(config: str, metrics: dict[str, float]) -> list[Row]:
    """One command from YAML to a release that passed its gate through vLLM, and figures above their floors."""
    tunegate("run", f"configs/finetune/{config}.yaml", expected=(0, 1, 4))
    root = Path("build") / config
    verdict, record = (
        json.loads((root / file).read_text(encoding="utf8")) for file in ("gate/verdict.json", "eval/metrics.json")
    )
    rows = [
        Row(f"{config}: verdict of the gate, through vLLM", verdict["outcome"], "pass", verdict["outcome"] == "pass")
    ]
    found = [(name, record["metrics"].get(name, float("nan")), floor) for name, floor in metrics.items()]
    return rows + [
        Row(f"{config}: {name}, {record['n']} test rows", round(value, 3), f"above {floor:g}", value > floor)
        for name, value, floor in found
    ]


def data() -> list[Row]:
    """`check --data` on a million rows, `prepare` of five million."""
    output = run(PYTHON, "-m", "benchmarks.train.data").stdout
    found = {line["name"]: line["value"] for line in map(json.loads, output.splitlines())}
    return [
        Row(
            "check --data of 1,000,000 rows",
            f"{found['check_data_seconds']} s, {found['check_data_peak_rss']} GiB",
            "measured",
            True,
        ),
        Row(
            f"prepare of {found['prepare_rows']:,} rows, peak resident memory ({found['prepare_seconds']} s)",
            found["prepare_peak_rss"],
            "at most 1.5 GiB",
            found["prepare_rows"] >= 5_000_000 and found["prepare_peak_rss"] <= 1.5,
        ),
    ]


def plan() -> list[Row]:
    """The estimate of `check --plan` against the training that it plans, measured just before; memory by the test of
    five trainings."""
    rows = tested(
        "memory planned within 15% of five real trainings' peak", "tests/train/test_plan.py", "-k", "real_training"
    )
    shutil.rmtree("build/preflight", ignore_errors=True)
    for config, steps in (
        ("smoke", 200),
        ("calls-v1", 15),
    ):  # as shipped they end within seconds, which are the start's
        words = [
            f"configs/finetune/{config}.yaml",
            "--set",
            f"name=prove-plan-{config}",
            "--set",
            f"train.max_steps={steps}",
        ]
        shutil.rmtree(f"build/prove-plan-{config}", ignore_errors=True)
        tunegate("prepare", *words)
        (planned,) = json.loads(tunegate("check", *words, "--plan", "--json"))
        seconds = json.loads(tunegate("train", *words, "--json"))["seconds"]
        ratio = planned["seconds"]["train"] / seconds
        name = f"{config}: seconds of training planned / taken ({planned['seconds']['train']:.0f} / {seconds:.0f})"
        rows.append(Row(name, round(ratio, 2), "0.85 to 1.15", 0.85 <= ratio <= 1.15))
    return rows


CHECKS: dict[str, Check] = {
    "speed": speed,
    "sentiment": sentiment_quality,
    "calls": calls_quality,
    "plan": plan,
    "resume": resume,
    "ner": lambda: trained_and_served("ner", {"entity_f1": 0.5}),
    "preferences": lambda: trained_and_served("preferences", {"preference_accuracy": 0.7}),
    "lint": lambda: tested(
        "twelve planted faults named with their rows, none on the clean copy",
        "tests/train/data/test_lint.py",
        "-k",
        "twelve_planted_faults",
    ),
    "template": lambda: tested(
        "chats of every family's template rendered by vLLM token for token as trained, tokens and mask TRL's",
        "tests/infra/test_chat_template_served.py",
        "tests/infra/test_chat_template.py",
    ),
    "processes": lambda: tested(
        "two processes give what one gives, and both ran", "tests/train/loop/test_processes.py", "-k", "two_processes"
    ),
    "sweep": lambda: tested("a killed sweep ends as if it had not been", "tests/train/test_sweep_trained.py"),
    "sync": lambda: tested(
        "MLflow down, then up: delivered once, whatever was killed when", "tests/infra/mlflow/test_sync.py"
    ),
    "data": data,
}
