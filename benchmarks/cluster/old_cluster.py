"""The cluster at hand is of Kubernetes 1.20, which has budgets in a beta group alone. What only it needs stands here.

.venv/bin/python -m benchmarks.cluster.old_cluster agent ENV    # `tunegate agent ENV`, against that cluster
"""

from __future__ import annotations

import sys
from typing import Any

from benchmarks.cluster.world import AS_ROOT, pod_of_this_checkout
from configs.section import JsonObject
from infra.kubernetes import api, router_objects
from infra.kubernetes.merge import merged

BETA = "policy/v1beta1"


def speak_to_old_cluster() -> None:
    """In this process, from here on."""
    api.PATHS["PodDisruptionBudget"] = (f"/apis/{BETA}", "poddisruptionbudgets")
    apply = api.Cluster.apply

    def apply_as_beta(cluster: api.Cluster, thing: JsonObject, **how: Any) -> JsonObject:
        if thing["kind"] == "PodDisruptionBudget":
            spec = {key: value for key, value in thing["spec"].items() if key != "unhealthyPodEvictionPolicy"}
            thing = thing | {"apiVersion": BETA, "spec": spec}
        return apply(cluster, thing, **how)

    api.Cluster.apply = apply_as_beta  # type: ignore[assignment,method-assign]  # of this process alone


def run_routers_from_here() -> None:
    """The routers' pods too are of this checkout: the schema changes those of model servers alone. Started as root,
    HAProxy becomes nobody, as it does on a machine."""
    becomes = {"capabilities": {"drop": ["ALL"], "add": ["SETUID", "SETGID", "SYS_CHROOT"]}}
    change = pod_of_this_checkout(init=[], containers=["router"])
    change["containers"][0]["securityContext"] = AS_ROOT | becomes
    spec_of = router_objects.pod_spec
    router_objects.pod_spec = lambda config: merged(spec_of(config), change)


def main() -> None:
    import tunegate

    speak_to_old_cluster()
    run_routers_from_here()
    sys.argv[0] = "tunegate"
    tunegate.main()


if __name__ == "__main__":
    main()
