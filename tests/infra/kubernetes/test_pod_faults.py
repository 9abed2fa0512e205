"""What no waiting will mend is said in the pod's own words; all else is waited for."""

from __future__ import annotations

from typing import Any

import pytest

from configs.section import JsonObject
from infra.kubernetes.pod_faults import fault_of

pytestmark = pytest.mark.unit


def pod(state: JsonObject, restarts: int = 0, last: JsonObject | None = None, init: bool = False, **about: Any) -> Any:
    one = {"name": "fetch" if init else "vllm", "state": state, "restartCount": restarts, "lastState": last or {}}
    key = "initContainerStatuses" if init else "containerStatuses"
    return {"metadata": {"name": "p"} | about, "status": {key: [one]}}


LOST = {"terminated": {"exitCode": 1, "message": "RuntimeError: no memory", "reason": "Error"}}
KILLED = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (pod({"waiting": {"reason": "ContainerCreating"}}), None),
        (pod({"running": {}}), None),
        (pod({"running": {}}, 1, KILLED), None),
        ({"metadata": {"name": "p"}, "status": {"phase": "Pending"}}, None),
        ({"metadata": {"name": "p"}}, None),
        (pod({"waiting": {"reason": "ImagePullBackOff", "message": "none"}}), "p: vllm: ImagePullBackOff: none"),
        (pod({"waiting": {"reason": "CrashLoopBackOff"}}, 2, LOST), "last with exit code 1: RuntimeError: no memory"),
        (pod({"waiting": {"reason": "CrashLoopBackOff"}}, 3, KILLED, init=True), "p: fetch ended 3 times, last"),
        (pod({"waiting": {"reason": "ImagePullBackOff"}}, deletionTimestamp="now"), None),
    ],
)  # fmt: skip
def test_a_pods_own_words(found: JsonObject, said: str | None) -> None:
    fault = fault_of([found])
    assert fault is None if said is None else fault is not None and said in fault
