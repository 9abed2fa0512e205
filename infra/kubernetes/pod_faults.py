"""Why a pod does not come up, in its own words: what no waiting will mend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from configs.section import JsonObject

HOPELESS = frozenset(
    {
        "ErrImageNeverPull",
        "InvalidImageName",
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImagePull",
        "ImagePullBackOff",
    }
)
MOST_RESTARTS = 2


def fault_of(pods: Iterable[JsonObject]) -> str | None:
    """The first fault of the first pod that has one; None where they may still come up."""
    return next((fault for pod in pods for fault in faults(pod)), None)


def faults(pod: JsonObject) -> Iterator[str]:
    status, name = pod.get("status", {}), pod["metadata"]["name"]
    if "deletionTimestamp" in pod["metadata"]:
        return
    for one in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        waits = one.get("state", {}).get("waiting") or {}
        ended = one.get("lastState", {}).get("terminated") or one.get("state", {}).get("terminated") or {}
        if waits.get("reason") in HOPELESS:
            yield f"{name}: {one['name']}: {waits['reason']}: {waits.get('message', '')}".rstrip(": ")
        elif one.get("restartCount", 0) >= MOST_RESTARTS and ended.get("exitCode"):
            said = (ended.get("message") or "").strip() or ended.get("reason", "")
            times = f"ended {one['restartCount']} times, last with exit code {ended['exitCode']}"
            yield f"{name}: {one['name']} {times}: {said}"
