"""Training, from YAML to trained weights: the best checkpoint, exact resumption after a kill, smaller micro-batches
where memory runs out."""

from __future__ import annotations

import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from configs.digest import key_of
from configs.errors import ExternalError, RefusedError
from configs.paths import RunPaths
from configs.release import read_manifest
from configs.run.config import RunConfig
from configs.training_record import RunFacts, TrainingRecord, read_training_record
from infra.checkpoints.store import CheckpointStore
from infra.engines.restarts import Attempts, newest_step
from train.data.prepared import read_card
from train.loop.checkpoints import last_checkpoint, open_run, read_facts, remember
from train.loop.engine import train_on_engine
from train.loop.memory import is_out_of_memory, next_micro_batch, thread_count, use_threads
from train.loop.processes import (
    agree,
    die_with_launcher,
    is_main,
    is_worker,
    must_launch,
    report_out_of_memory,
    run_processes,
)
from train.loop.stopping import DivergedError
from train.loop.trainer import Tracker, train_once
from train.model.base import make_base
from train.tasks.grpo import Rewards


def finetune(
    config: RunConfig, paths: RunPaths, tracker: Tracker, show: bool = True, rewards: Rewards | None = None
) -> TrainingRecord:
    """The training record, also trained/training.json. A second call with the same config and data does nothing.

    Killed, it goes on from the last whole checkpoint, with as many threads as before, and ends with the very bytes that
    it would have ended with. Raises InputError before `prepare`, RefusedError when training diverges (and again,
    without training, until the config changes), ExternalError when one row is too much for the memory.
    """
    die_with_launcher()
    base, card = make_base(config), read_card(paths)
    settings = config.train.model_dump(exclude={"accept_constant", "report_to", "activation_offload"})
    if not config.train.compile:
        del settings["compile"]  # it was no key once: what was trained then is trained
    asked: list[Any] = [config.evaluate.model_dump()] if config.task == "grpo" else []  # scored as evaluate scores
    if config.launch.shards:  # its checkpoints are those of so many processes
        asked.append(config.launch.model_dump(include={"processes", "nodes", "strategy"}))
    key = key_of(
        config.task,
        config.problem,
        settings,
        read_manifest(base).digest,
        card["fingerprint"],
        card.get("tokens"),
        *asked,
    )
    finished = read_training_record(paths)
    if finished and finished.get("key") == key:
        return finished
    if config.launch.engine != "local":
        return train_on_engine(config, paths, key)
    fresh: RunFacts = {
        "key": key,
        "threads": config.launch.threads or share_of_threads(config.launch.processes),
        "micro_batch": config.train.batch_size,
        "world_size": config.launch.world_size,
    }
    if must_launch(config):
        record = launch(config, paths, fresh)
    else:
        record = train_here(config, paths, tracker, base, card["labels"], fresh, show, rewards)
    if not is_worker():
        for folder in (paths.checkpoints, *paths.root.glob(".cache.*.partial")):  # also of nodes that are no more
            shutil.rmtree(folder, ignore_errors=True)
    return record


def share_of_threads(processes: int) -> int:
    """Of each process on this machine. A worker was given its share."""
    return thread_count() if is_worker() else max(1, thread_count() // processes)


def train_here(
    config: RunConfig,
    paths: RunPaths,
    tracker: Tracker,
    base: Path,
    labels: list[str],
    fresh: RunFacts,
    show: bool,
    rewards: Rewards | None,
) -> TrainingRecord:
    """In this process, alone or beside others of its launch."""
    url = config.launch.checkpoints
    store = CheckpointStore.open(url, config.name, fresh["key"]) if url and is_main() else None
    facts = agree(lambda: open_run(paths.checkpoints, fresh, store))
    refuse_diverged(facts, paths)
    use_threads(facts["threads"])
    while True:
        try:
            record = train_once(config, paths, tracker, base, labels, facts, show, rewards, store)
            break
        except DivergedError as error:
            facts["diverged"] = error.message
            if is_main():
                remember(paths.checkpoints, facts)
            refuse_diverged(facts, paths)
        except Exception as error:  # torch raises out of memory under three types
            if not is_out_of_memory(error):
                raise
            report_out_of_memory()
        facts["micro_batch"] = next_micro_batch(facts["micro_batch"], config.launch.world_size, config.least_rows)
        remember(paths.checkpoints, facts)
    if store:
        with suppress(Exception):  # the model stands: what is left there costs room alone
            store.remove()
    return record


def launch(config: RunConfig, paths: RunPaths, fresh: RunFacts) -> TrainingRecord:
    """In processes of their own, all started again from the last checkpoint when one of them is lost: so often without
    progress as `launch.restarts` says. Several nodes are started again by who started them."""
    attempts = Attempts(newest_step(paths.checkpoints))
    while True:
        facts = read_facts(paths.checkpoints, fresh["key"]) or fresh
        refuse_diverged(facts, paths)
        try:
            return run_processes(config, paths, facts["threads"])
        except MemoryError:
            facts = read_facts(paths.checkpoints, fresh["key"]) or fresh if config.launch.nodes == 1 else facts
            smaller = next_micro_batch(facts["micro_batch"], config.launch.world_size, config.least_rows)
            remember(paths.checkpoints, {**facts, "micro_batch": smaller})
        except ExternalError as error:
            refuse_diverged(read_facts(paths.checkpoints, fresh["key"]) or fresh, paths)  # rank 0 has remembered it
            attempts = attempts.after(newest_step(paths.checkpoints))
            if config.launch.nodes > 1 or attempts.without_progress > config.launch.restarts:
                raise
            print(f"{error.message}: all processes start again from the last checkpoint", file=sys.stderr)


def refuse_diverged(facts: RunFacts, paths: RunPaths) -> None:
    if "diverged" in facts:
        kept = last_checkpoint(paths.checkpoints)
        beside = f"; the last good checkpoint is {kept}" if kept else ""
        raise RefusedError(
            f"{facts['diverged']}{beside}",
            hint="tunegate train CONFIG --set train.learning_rate=LOWER   (it starts afresh)",
        )
