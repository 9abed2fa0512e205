"""Whether a slot of pods lives, by what its Deployment says; and by what it said last, where nobody answers."""

from __future__ import annotations

import time
from typing import Any

import pytest

from configs.errors import UnreachableError
from configs.section import JsonObject
from configs.slots import SLOTS
from infra.kubernetes.autoscaling import scaled_object
from infra.kubernetes.labels import labels_of, slot_name
from infra.kubernetes.slot import Seen, SlotPods, cluster_of, end_slot_pods, looker_of, start_pods
from infra.kubernetes.slot_objects import slot_objects
from tests.support.cluster_objects import DIGEST, manifest
from tests.support.fake_cluster import FakeApi, api, cluster_config
from tests.support.kills import wait_until

__all__ = ["api"]
pytestmark = pytest.mark.unit


def deployment(
    wanted: int = 2, ready: int = 0, reason: str = "ReplicaSetUpdated", status: str = "True", **about: Any
) -> JsonObject:
    condition = {"type": "Progressing", "status": status, "reason": reason}
    return {
        "kind": "Deployment",
        "metadata": {"name": "x-blue", "uid": "u", "labels": labels_of(cluster_config(), "server", "blue")} | about,
        "spec": {"replicas": wanted},
        "status": {"readyReplicas": ready, "conditions": [condition]},
    }


COMPLETE = "NewReplicaSetAvailable"


@pytest.mark.parametrize(
    ("thing", "lives"),
    [
        ({"metadata": {"name": "x", "uid": "u"}, "spec": {}}, True),  # its controller has not seen it yet
        (deployment(), True),  # it starts
        (deployment(ready=1), True),
        (deployment(ready=2, reason=COMPLETE), True),
        (deployment(ready=1, reason=COMPLETE), True),  # one of two is enough to answer
        (deployment(ready=0, reason=COMPLETE), False),  # all have died
        (deployment(ready=0, reason="ProgressDeadlineExceeded", status="False"), False),
        (deployment(ready=1, reason="ProgressDeadlineExceeded", status="False"), True),
        (deployment(wanted=0, reason=COMPLETE), True),  # scaled to zero: the next request brings one back
        (deployment(ready=2, reason=COMPLETE, deletionTimestamp="now"), False),
    ],
)
def test_it_lives_as_long_as_a_pod_is_ready_or_still_to_come(thing: JsonObject, lives: bool) -> None:
    assert Seen.of(thing).lives is lives


def test_nothing_is_taken_for_dead_while_the_api_server_is_away(api: FakeApi) -> None:
    config = cluster_config()
    pods = SlotPods(config, "blue", "x-blue", "u", "10.0.0.1")
    api.mode = "down"
    with pytest.raises(UnreachableError):
        pods.is_alive()  # nothing was ever seen
    api.mode = "up"
    api.put("deployments", "x-blue", deployment(ready=2, reason=COMPLETE))
    assert pods.is_alive()
    for mode in ("down", "hang"):
        api.mode = mode  # type: ignore[assignment]
        looker_of(config).due = 0.0
        began = time.monotonic()
        assert pods.is_alive() and time.monotonic() - began < 1, "and nobody waits for it"
    api.mode = "up"
    api.put("deployments", "x-blue", deployment(ready=0, reason=COMPLETE))

    def is_dead() -> bool:
        looker_of(config).due = 0.0
        return not pods.is_alive()

    wait_until(is_dead)
    assert is_dead()


def test_one_of_another_start_is_another_one(api: FakeApi) -> None:
    config = cluster_config()
    api.put("deployments", "x-blue", deployment(ready=2, reason=COMPLETE))
    assert SlotPods(config, "blue", "x-blue", "u", "10.0.0.1").is_alive()
    assert not SlotPods(config, "blue", "x-blue", "v", "10.0.0.1").is_alive()
    api.put("deployments", "x-blue", deployment(ready=2, reason=COMPLETE, uid="w"))
    assert SlotPods(config, "blue", "x-blue", "w", "10.0.0.1").is_alive(), "one that was just applied is looked for"


def test_an_autoscaled_deployment_begins_with_enough_pods_and_keeps_those_that_it_has(api: FakeApi) -> None:
    config = cluster_config(replicas=2, placed={"max_replicas": 4}, supervision={"metrics_port": 9464})
    objects = [thing for thing in slot_objects(config, manifest(), "blue", None) if thing["kind"] == "Deployment"]
    name = start_pods(config, "blue", objects, 2)["deployment"]
    assert api.things["deployments", name]["spec"]["replicas"] == 2 and "replicas" not in objects[0]["spec"]
    api.apply("deployments", name, {"spec": {"replicas": 3}})
    start_pods(config, "blue", objects, 2)
    assert api.things["deployments", name]["spec"]["replicas"] == 3


def test_a_slot_that_ends_takes_its_autoscaler_with_it(api: FakeApi) -> None:
    config = cluster_config(replicas=2, placed={"max_replicas": 4}, supervision={"metrics_port": 9464})
    for slot in SLOTS:
        cluster_of(config).apply(scaled_object(config, manifest(), slot))
    end_slot_pods(config, "blue", 0)
    assert [name for kind, name in api.things if kind == "scaledobjects"] == [slot_name(config, "green", DIGEST)]
