"""A tiny training on two nodes, killed at random; its digest is that of an undisturbed one."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from benchmarks.prove import Row, console
from configs.paths import RunPaths
from configs.run.config import RunConfig
from configs.training_record import TrainingRecord
from infra.engines.job import FRONT_DOOR
from infra.engines.restarts import newest_step
from infra.mlflow.outbox import Outbox

STEPS, INTERVAL = 48, 4


class Disturbed(NamedTuple):
    """One training that was killed once. `lost`: steps that were done and had to be done again."""

    kind: str
    digest: str
    lost: int
    resumed: bool


@contextmanager
def scratch(folder: Path) -> Iterator[None]:
    """A checkout's stand-in with rows, a tiny BERT and a gate, in which to work."""
    from transformers import BertConfig, BertModel

    from tests.train.conftest import make_tokenizer, write_lines

    before = Path.cwd()
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    try:
        if not Path("gate.yaml").exists():
            import torch

            torch.manual_seed(0)
            tokenizer = make_tokenizer()
            shape: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
            model: Any = BertModel(  # type: ignore[no-untyped-call]
                BertConfig(
                    vocab_size=len(tokenizer),
                    max_position_embeddings=256,
                    pad_token_id=tokenizer.pad_token_id,
                    num_attention_heads=2,
                    **shape,
                )
            )
            model.save_pretrained("tiny-bert")
            tokenizer.save_pretrained("tiny-bert")
            words = {"good": ("good", "fine"), "bad": ("bad", "poor")}
            rows = [{"text": f"{words[one][at % 2]} film {at}", "label": one} for at in range(20) for one in words]
            write_lines(Path("rows.jsonl"), rows)
            Path("gate.yaml").write_text("rules: [{rule: parity}]\n")
        yield
    finally:
        os.chdir(before)


def run_config(name: str, **launch: Any) -> RunConfig:
    """Two nodes of one process of one thread, with dropout; `launch` on top."""
    return RunConfig.model_validate(
        {
            "name": name,
            "task": "sequence-classification",
            "base": {"path": "tiny-bert"},
            "data": {"source": "files", "files": ["rows.jsonl"], "validation_rows": 6, "test_rows": 10},
            "train": {
                "max_steps": STEPS,
                "batch_size": 4,
                "eval_every_steps": INTERVAL,
                "learning_rate": 0.01,
                "lora": {"rank": 4, "alpha": 8, "dropout": 0.1},
                "divergence": {"factor": 1000},
            },
            "gate": "gate.yaml",
            "launch": {"nodes": 2, "threads": 1, **launch},
        }
    )


def train(config: RunConfig) -> tuple[str, TrainingRecord]:
    """Digest of the weights, and the record; as `tunegate train` trains, in this process."""
    from train.finetune import finetune
    from train.model.base import make_base
    from train.prepare import prepare

    paths = RunPaths.of(config.name)
    prepare(config, paths, make_base(config))
    record = finetune(config, paths, SimpleNamespace(run_id=None, log_metrics=lambda figures, step: None))
    return hashlib.sha256((paths.trained / "adapter_model.safetensors").read_bytes()).hexdigest(), record


def disturb(config: RunConfig, kind: str, kill: Callable[[str], None], chance: random.Random) -> Disturbed:
    """Trains it, and kills once, at a random moment after a random checkpoint. `kill`: of the job of this name."""
    paths, ended = RunPaths.of(config.name), list[Any]()

    def follow() -> None:
        try:
            ended.append(train(config))
        except BaseException as error:
            ended.append(error)

    shutil.rmtree(paths.root, ignore_errors=True)
    thread = threading.Thread(target=follow)
    thread.start()
    after = chance.randrange(INTERVAL, STEPS - INTERVAL, INTERVAL)
    while newest_step(paths.checkpoints) < after and not ended:
        time.sleep(0.02)
    time.sleep(chance.uniform(0, 0.3))
    token = json.loads((paths.root / "launch/job/job.json").read_text())["token"]
    done = last_logged_step(paths)
    kill(token)
    thread.join()
    if isinstance(ended[0], BaseException):
        raise ended[0]
    digest, record = ended[0]
    steps = [one["step"] for one in record.get("resumed", [])]
    found = Disturbed(kind, digest, max(0, done - steps[0]) if steps else 0, bool(steps))
    console.print(f"{config.name}: {kind} killed at step {done}, went on from {steps}, {digest[:12]}")
    return found


def last_logged_step(paths: RunPaths) -> int:
    return max((line["step"] for line, _ in Outbox(paths.root / "tracking").lines() if "metrics" in line), default=0)


def disturb_often(
    engine: str, times: int, kill: Callable[[str, str], None], mend: Callable[[], None], **launch: Any
) -> list[Disturbed]:
    """So many trainings, each killed once: workers and nodes in turn. `mend`: brings lost nodes back. A kill that came
    too late is tried again."""
    found, tries, chance = list[Disturbed](), 0, random.Random(engine)
    while len(found) < times and tries < 2 * times:
        kind = ("worker", "node")[len(found) % 2]
        config = run_config(f"{engine}-{len(found)}", engine=engine, **launch)
        one = disturb(config, kind, lambda token, kind=kind: kill(kind, token), chance)  # type: ignore[misc]
        tries += 1
        mend()
        if one.resumed:
            found.append(one)
    return found


def processes_of(folder: Path) -> list[int]:
    """Of this training: launchers and ranks, on whatever node of this machine; not the shells that began them."""
    import psutil

    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            program, *command = process.cmdline() or [""]
            if "python" in program and any(str(folder) in one for one in command) and str(FRONT_DOOR) in command:
                found.append(process.pid)
    return found


def kill_worker(folder: Path, chance: random.Random) -> None:
    """One launcher or rank, whichever."""
    found = processes_of(folder)
    if found:
        os.kill(chance.choice(sorted(found)), signal.SIGKILL)


def rows_of(engine: str, expected: str, found: list[Disturbed]) -> list[Row]:
    """What was promised of these kills, and seen."""
    killed = [one for one in found if one.resumed]
    equal, lost = sum(one.digest == expected for one in killed), max((one.lost for one in killed), default=0)
    nodes = sum(one.kind == "node" for one in killed)
    return [
        Row(
            f"{engine}: digests equal to the undisturbed one's after a kill -9 of a worker or node ({nodes} of nodes)",
            f"{equal} of {len(killed)}",
            f"{len(found)} of {len(found)}",
            equal == len(killed) == len(found),
        ),
        Row(f"{engine}: most steps lost by a kill", lost, f"≤ {INTERVAL}, a checkpoint interval", lost <= INTERVAL),
    ]
