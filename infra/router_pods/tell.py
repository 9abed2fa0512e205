"""The same to every router, until each that counts has confirmed it."""

from __future__ import annotations

import time
from typing import Protocol

from configs.errors import ExternalError, UnreachableError
from infra.kubernetes.pods import Pod
from infra.router_pods.calls import Answers, ask_each
from infra.router_pods.maps import Maps

# A dead node's pods are found not to be ready after 40 s (kube-controller-manager, node-monitor-grace-period).
CONFIRM_SECONDS = 60.0
RETRY_SECONDS = 0.3


class Pods(Protocol):
    """Who is there now; `fresh`: as the API server says this moment."""

    def __call__(self, *, fresh: bool = False) -> list[Pod]: ...


def tell_each(pods: Pods, maps: Maps, seconds: float = CONFIRM_SECONDS) -> dict[str, float]:
    """All that are there, those that come meanwhile too. Returns how many milliseconds each took, by its name. Who gets
    requests must confirm; whoever is silent is asked again, until it answers, is found not to be ready, or is gone.
    Raises UnreachableError after so many `seconds`."""
    spent: dict[str, float] = {}
    told, deadline, there = set[str](), time.monotonic() + seconds, pods()
    while left := [pod for pod in there if pod.uid not in told]:
        found = ask_each(left, "POST", "/maps", maps)
        errors = errors_in(found, left, maps)
        told |= {pod.uid for pod in left if pod.uid not in errors or not counts(pod)}
        spent |= {pod.name: found.milliseconds[pod.uid] for pod in left if pod.uid not in errors}
        there = pods(fresh=True)
        wrong = [errors[pod.uid] for pod in there if pod.uid in errors and counts(pod)]
        if wrong and time.monotonic() > deadline:
            raise wrong[0]
        if wrong:
            time.sleep(RETRY_SECONDS)
    return spent


def counts(pod: Pod) -> bool:
    """Whether it gets requests."""
    return pod.ready and not pod.ending


def errors_in(found: Answers, pods: list[Pod], maps: Maps) -> dict[str, ExternalError]:
    """By uid: what was not answered, and what was answered otherwise."""
    errors = dict(found.errors)
    for pod in pods:
        said = found.said.get(pod.uid)
        wrong = [name for name in maps if said is not None and said.get(name) != maps[name]]
        if wrong:
            errors[pod.uid] = UnreachableError(
                f"router {pod.name} ({pod.address}) did not take {', '.join(wrong)}", hint=f"kubectl logs {pod.name}"
            )
    return errors
