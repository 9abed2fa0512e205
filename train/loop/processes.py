"""More than one process for one training: torchrun's agent starts the same command once a rank, and none outlives it.

The agent runs inside `tunegate train` itself, so there is one process less to be killed. Data parallelism is that of
accelerate (docs: split_batches): every batch is drawn as by one process and then split, so the order of the data,
the effective batch and the losses stay what they are with one.
"""

from __future__ import annotations

import logging
import os
import platform
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, TypeVar

from configs.errors import ExternalError, InputError, cause_of
from configs.paths import RunPaths
from configs.run.config import RunConfig
from configs.training_record import TrainingProcess, TrainingRecord, read_training_record
from infra.files.atomic import write_json
from infra.processes import die_with
from train.loop.sharding import sharding_arguments

Gathered = TypeVar("Gathered")
LAUNCHER = "TUNEGATE_LAUNCHER"  # in a worker: the process id of the command that started it
RENDEZVOUS = "TUNEGATE_RENDEZVOUS"  # HOST:PORT of one node, the same on all
# Of an engine: this node's number, of which 0 is that host, and the address at which the others find it. Without them
# torch asks the names of this machine, which may be others than the engine's.
NODE, ADDRESS = "TUNEGATE_NODE", "TUNEGATE_ADDRESS"
OUT_OF_MEMORY = 75  # a worker's exit code; sysexits.h EX_TEMPFAIL
FRONT_DOOR = Path(__file__).parents[2] / "tunegate.py"


def is_worker() -> bool:
    return LAUNCHER in os.environ


def is_main() -> bool:
    """The one process that shows, tracks and saves."""
    return not is_worker() or os.environ["RANK"] == "0"


def must_launch(config: RunConfig) -> bool:
    return config.launch.world_size > 1 and not is_worker()


def report_out_of_memory() -> None:
    """A worker ends, for the others wait for it: the launcher tries again with smaller micro-batches."""
    if is_worker():
        os._exit(OUT_OF_MEMORY)


def die_with_launcher() -> None:
    """A worker ends when its launcher does."""
    if is_worker():
        die_with(int(os.environ[LAUNCHER]))


def launch_arguments(config: RunConfig) -> dict[str, Any]:
    """What transformers' TrainingArguments want to know of it."""
    if not is_worker():
        return {}
    from torch.serialization import register_package

    register_package(1, leave_untagged, restore_to_cpu)
    # A classifier's loss is a mean whatever the number of items: the trainer would multiply it by the number of
    # processes.
    counts_items = config.task == "causal-lm"
    sharded = sharding_arguments(config) if config.launch.shards else {}
    return sharded | {
        "accelerator_config": {"split_batches": True},
        "average_tokens_across_devices": counts_items,
        "ddp_find_unused_parameters": False,
    }


def use_one_device(trainer: Any) -> None:
    """A process trains on one GPU, however many it sees: transformers would wrap the model in DataParallel, which
    splits a padding-free batch, one row of many, among them."""
    if trainer.args.n_gpu > 1:
        trainer.args._n_gpu = 1
        trainer._train_batch_size = trainer.args.train_batch_size


def leave_untagged(storage: Any) -> None:
    """How storages are tagged when saved stays as it is."""


def restore_to_cpu(storage: Any, tag: str) -> Any:
    """accelerate calls the CPU of a rank cpu:RANK, and torch.load of a checkpoint knows only cpu
    (torch/serialization.py)."""
    return storage if tag.startswith("cpu:") else None


def agree(make: Callable[[], Gathered]) -> Gathered:
    """What the main process makes of it, in every process: one looks and acts, for they may see a shared file system at
    different moments."""
    if not is_worker():
        return make()
    import torch
    from accelerate import PartialState

    PartialState(cpu=not torch.cuda.is_available())  # the processes meet, as the trainer would let them
    made: list[Any] = [make() if is_main() else None]
    torch.distributed.broadcast_object_list(made, src=0)
    agreed: Gathered = made[0]
    return agreed


def wait_for_others() -> None:
    if is_worker():
        import torch

        torch.distributed.barrier()


def gather_processes() -> list[TrainingProcess]:
    """Rank, process and backend of each that trained; waits for them all."""
    if not is_worker():
        return [{"rank": 0, "pid": os.getpid()}]
    import torch

    mine: TrainingProcess = {
        "rank": torch.distributed.get_rank(),
        "pid": os.getpid(),
        "backend": torch.distributed.get_backend(),
    }
    return gather(mine)


def gather(mine: Gathered) -> list[Gathered]:
    """Of each process, in the order of ranks; waits for them all."""
    if not is_worker():
        return [mine]
    import torch

    gathered: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, mine)
    return gathered


def run_processes(config: RunConfig, paths: RunPaths, threads: int) -> TrainingRecord:
    """The training record that rank 0 wrote. `threads`: of each process. Raises InputError where the hardware is not
    there, and what a rank failed of."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.launcher.api import elastic_launch

    check_hardware(config)
    (paths.root / "launch").mkdir(parents=True, exist_ok=True)
    folder = Path(mkdtemp(prefix=f"{platform.node()}-", dir=paths.root / "launch"))  # nodes share a file system
    write_json(folder / "config.json", config.model_dump(mode="json", exclude={"sweep"}))
    command = (str(FRONT_DOOR), "train", str(folder / "config.json"), "--json")
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # it prints what we say ourselves
    with (
        environment({LAUNCHER: str(os.getpid()), "OMP_NUM_THREADS": str(threads)}),
        interruptible(),
    ):
        try:
            elastic_launch(agent_settings(config, folder), sys.executable)(*command)
        except ChildFailedError as error:
            if any(found.exitcode == OUT_OF_MEMORY for found in error.failures.values()):
                raise MemoryError from None
            raise failure(*error.get_first_failure(), folder) from None
        except RendezvousError as error:
            raise ExternalError(f"{RENDEZVOUS}: the nodes did not meet: {cause_of(error)}") from None
    shutil.rmtree(folder)
    record = read_training_record(paths)
    if record is None:
        raise ExternalError(
            f"{paths.trained}: not there after training", hint="nodes need one shared file system under build/"
        )
    return record


def check_hardware(config: RunConfig) -> None:
    import torch

    launch, gpus = config.launch, torch.cuda.device_count()
    if gpus and launch.processes > gpus:
        raise InputError(
            f"launch.processes: found {launch.processes}, expected at most {gpus}, one for each GPU",
            hint=f"--set launch.processes={gpus}",
        )


def agent_settings(config: RunConfig, folder: Path) -> Any:
    """torchrun's own settings: one rendezvous, no restarts; rank 0 shares our stderr, the others write to files."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.launcher.api import LaunchConfig

    launch = config.launch
    logs = {rank: Std.ALL if rank else Std.OUT for rank in range(launch.processes)}
    return LaunchConfig(
        min_nodes=launch.nodes,
        max_nodes=launch.nodes,
        nproc_per_node=launch.processes,
        run_id=config.name,
        rdzv_backend="c10d",
        rdzv_endpoint=rendezvous(launch.nodes),
        rdzv_configs={"is_host": os.environ[NODE] == "0"} if os.environ.get(NODE) else {},
        local_addr=os.environ.get(ADDRESS),
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=str(folder), redirects=logs),
    )


def rendezvous(nodes: int) -> str:
    """Where the nodes meet; a free port of this machine's own where there is one node."""
    if nodes == 1:
        return "localhost:0"
    if not os.environ.get(RENDEZVOUS):
        raise InputError(
            f"launch.nodes: found {nodes} and no {RENDEZVOUS}",
            hint=f"{RENDEZVOUS}=HOST:PORT tunegate train CONFIG   on each node, HOST being one of them",
        )
    return os.environ[RENDEZVOUS]


@contextmanager
def environment(extra: dict[str, str]) -> Iterator[None]:
    """Workers inherit it; this process gets its own back."""
    before = dict(os.environ)
    os.environ.update(extra)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def interruptible() -> Iterator[None]:
    """The agent turns signals into an exception of its own after ending its workers; here they mean again what they
    mean everywhere."""
    from torch.distributed.elastic.multiprocessing import SignalException

    before = {name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)}
    try:
        yield
    except SignalException as error:
        if error.sigval == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise SystemExit(128 + error.sigval) from None
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def failure(rank: int, found: Any, folder: Path) -> Exception:
    """What a wrong input is stays one; 1 is also what Python ends with after an error of its own."""
    if found.exitcode < 0:
        name = signal.Signals(-found.exitcode).name
        return ExternalError(
            f"rank {rank} (process {found.pid}) was ended by {name}",
            hint="the same command goes on from the last checkpoint",
        )
    output = f"in {folder}" if rank else "above"
    kind = InputError if found.exitcode == 2 else ExternalError
    return kind(f"rank {rank} ended with exit code {found.exitcode}; what it said stands {output}")
