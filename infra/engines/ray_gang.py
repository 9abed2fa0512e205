"""What runs inside Ray: the actor that keeps a training's launchers alive. Standard library and ray alone: it goes to
the cluster by value, so it is run as `python -c`.

… submit ADDRESS NAME SPECIFICATION.json
… look|cancel ADDRESS NAME
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

NAMESPACE, BEAT_SECONDS = "tunegate", 5
GONE = 44  # exit code of a call: Ray answers, and knows of none
WRONG_INPUT = 2  # of tunegate train: the same again


def die_with_parent() -> None:
    """In a child: the kernel kills it when the thread that started it ends (prctl(2))."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def rendezvous(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def meeting_place() -> str:
    """This node's address, as Ray knows it, and a free port."""
    import ray

    address: Any = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    with socket.socket() as probe:
        probe.bind(("", 0))
        return rendezvous(str(address), int(probe.getsockname()[1]))


def run_node(specification: dict[str, Any], rendezvous: str, node: int) -> int:
    """Exit code of this node's launcher."""
    import ray

    address: Any = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    place = {"TUNEGATE_RENDEZVOUS": rendezvous, "TUNEGATE_NODE": str(node), "TUNEGATE_ADDRESS": str(address)}
    environment = os.environ | specification["environment"] | place
    for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):  # Ray sets the first to a task's CPUs
        if name == "OMP_NUM_THREADS" or not environment.get(name):
            environment.pop(name, None)
    with Path(f"{specification['log']}.{node}").open("ab") as log:
        launcher = subprocess.Popen(
            specification["command"],
            cwd=specification["root"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent,
        )
        return launcher.wait()


class Gang:
    """Starts all nodes' launchers, and all again when one is lost. Restarted by Ray where its own node is lost: its
    tasks die with it, so none of an earlier gang trains on."""

    def __init__(self, specification: dict[str, Any]) -> None:
        self.specification = specification
        self.words = "waiting for nodes"
        threading.Thread(target=self.beat, daemon=True).start()
        threading.Thread(target=self.keep, daemon=True).start()

    def state(self) -> str:
        return self.words

    def beat(self) -> None:
        while not Path(self.specification["ended"]).exists():
            self.write("heartbeat", self.words)
            time.sleep(BEAT_SECONDS)

    def keep(self) -> None:
        """Until it has ended well, or gets no further."""
        code = 3
        while True:
            try:
                code = self.run_once()
            except Exception as error:  # a node or a task was lost: Ray has a type for each way
                code = 3
                with Path(f"{self.specification['log']}.0").open("a") as log:
                    log.write(f"{type(error).__name__}: {str(error).splitlines()[0][:300]}\n")
            if code in (0, WRONG_INPUT) or not self.once_more():
                break
            self.words = "waiting for nodes"
        self.write("ended", str(code if code in (0, 1, WRONG_INPUT) else 3))
        self.words = f"ended with {code}"

    def once_more(self) -> bool:
        counted = subprocess.run(self.specification["once_more"], cwd=self.specification["code"])
        return counted.returncode == 0

    def run_once(self) -> int:
        """The first exit code that is not 0, or 0 of all. Raises what Ray raises of a lost node."""
        import ray
        from ray.util.placement_group import placement_group, remove_placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        told = self.specification
        group = placement_group([told["resources"]] * told["nodes"], strategy=told["strategy"])
        tasks: list[Any] = []
        try:
            ray.get(group.ready())

            def remote(function: Any, bundle: int, **resources: Any) -> Any:
                place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=bundle)
                return ray.remote(function).options(scheduling_strategy=place, max_retries=0, **resources)

            place = ray.get(remote(meeting_place, 0, num_cpus=0).remote())
            share = {"num_cpus": told["resources"]["CPU"], "num_gpus": told["resources"].get("GPU", 0)}
            tasks = [remote(run_node, node, **share).remote(told, place, node) for node in range(told["nodes"])]
            self.words = f"running on {told['nodes']} node{'s' if told['nodes'] > 1 else ''}, met at {place}"
            left = tasks
            while left:
                done, left = ray.wait(left)
                code = int(ray.get(done[0]))
                if code:
                    return code
            return 0
        finally:
            for task in tasks:
                ray.cancel(task, force=True)
            remove_placement_group(group)

    def write(self, name: str, text: str) -> None:
        path = Path(self.specification[name])
        partial = path.with_name(path.name + ".partial")
        partial.write_text(text)
        partial.replace(path)


def main() -> int:
    import ray

    verb, address, token = sys.argv[1:4]
    ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
    if verb == "submit":
        specification = json.loads(Path(sys.argv[4]).read_text(encoding="utf8"))
        actor: Any = ray.remote(Gang).options(
            name=token, get_if_exists=True, lifetime="detached", max_restarts=-1, num_cpus=0, max_concurrency=4
        )
        print(ray.get(actor.remote(specification).state.remote()))
        return 0
    try:
        found = ray.get_actor(token)
    except ValueError:
        return GONE
    if verb == "look":
        try:
            print(ray.get(found.state.remote(), timeout=30))
        except ray.exceptions.GetTimeoutError:
            print("it is being started again")
    else:
        ray.kill(found, no_restart=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
