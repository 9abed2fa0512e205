"""A slot's Deployment, Service and budget: what Kubernetes takes, and what the pods of one release are."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.environment.config import DeployConfig
from configs.errors import RefusedError
from configs.release import Manifest
from configs.run.serving import Serving
from configs.section import JsonObject
from configs.slots import SLOTS, SlotName
from infra.kubernetes.labels import labels_of, slot_name
from infra.kubernetes.slot_objects import slot_objects
from infra.vllm.arguments import DRAIN_SECONDS, vllm_arguments
from tests.support.cluster_objects import DIGEST, ENVIRONMENTS, MANIFESTS, VERSIONS, environment, faults, manifest

pytestmark = pytest.mark.unit
GIB = {"nvidia.com/gpu": "2"}


def pod_of(config: DeployConfig, made: Manifest | None = None) -> JsonObject:
    found: JsonObject = slot_objects(config, made or manifest(), "blue", 1)[0]["spec"]["template"]["spec"]
    return found


def server_of(config: DeployConfig, made: Manifest | None = None) -> JsonObject:
    found: JsonObject = pod_of(config, made)["containers"][0]
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("bytes_", ["oci://registry.example/releases", "s3://releases/x", "pvc://claim/folder"])
def test_each_is_strictly_valid_in_every_version(version: str, bytes_: str) -> None:
    for thing in slot_objects(environment({"bytes": bytes_}), manifest(), "green", 2):
        assert faults(thing, version) == []


def test_the_schemas_refuse_a_key_that_is_none() -> None:
    """Else the tests here could not fail."""
    thing = slot_objects(environment(), manifest(), "green", 2)[0]
    thing["spec"]["template"]["spec"]["containers"][0]["imagee"] = "x"
    assert all("imagee" in str(faults(thing, version)) for version in VERSIONS)


@settings(max_examples=60)
@given(ENVIRONMENTS, MANIFESTS, st.sampled_from(SLOTS), st.none() | st.integers(0, 1000), st.sampled_from(VERSIONS))
def test_whatever_an_environment_says_is_valid_and_said_twice_the_same(
    config: DeployConfig, made: Manifest, slot: SlotName, replicas: int | None, version: str
) -> None:
    found = slot_objects(config, made, slot, replicas)
    assert [fault for thing in found for fault in faults(thing, version)] == []
    assert found == slot_objects(config.model_copy(deep=True), made.model_copy(deep=True), slot, replicas)
    name = slot_name(config, slot, made.digest)
    assert {thing["metadata"]["name"] for thing in found} == {name} and len(name) <= 63
    for thing in found:
        assert all(len(value) <= 63 for value in thing["metadata"]["labels"].values())
        assert thing["metadata"]["annotations"]["tunegate.dev/release"] == made.reference


def test_the_three_are_found_by_the_labels_of_the_slot_and_select_its_pods_alone() -> None:
    deployment, service, budget = slot_objects(environment(), manifest(), "blue", 2)
    labels = labels_of(environment(), "server", "blue", DIGEST)
    assert (
        deployment["spec"]["selector"]["matchLabels"] == labels == deployment["spec"]["template"]["metadata"]["labels"]
    )
    assert service["spec"]["selector"] == labels == budget["spec"]["selector"]["matchLabels"]
    assert labels_of(environment(), "server", "green", DIGEST).items() - labels.items() == {
        ("tunegate.dev/slot", "green")
    }


def test_another_release_is_another_name() -> None:
    other = "sha256:" + "f" * 64
    assert slot_name(environment(), "blue", DIGEST) == "prod-blue-0123456789"
    assert slot_name(environment(), "blue", other) == "prod-blue-ffffffffff"


def test_the_arguments_are_those_of_every_other_server_of_it() -> None:
    command = server_of(environment())["command"]
    served = vllm_arguments(
        Path("/release"), manifest(), port=8000, served_name="assistant", host="0.0.0.0",
        metered=True,
    )  # fmt: skip
    assert command[1:3] == ["-m", "vllm.entrypoints.openai.api_server"] and command[3:] == served


def test_a_dollar_reaches_the_server_as_it_is() -> None:
    """Kubernetes puts the value of HOME in for $(HOME)."""
    server = server_of(environment(model="$(HOME) $$x"))
    assert expanded(server["command"], {"HOME": "/x"})[6] == "$(HOME) $$x"
    assert '"$(HOME) $$x"' in expanded(server["readinessProbe"]["exec"]["command"], {"HOME": "/x"})[6]


def expanded(words: list[str], known: dict[str, str]) -> list[str]:
    """As third_party/forked/golang/expansion of Kubernetes."""

    def one(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else known.get(found[1], found[0])

    return [re.sub(r"\$\$|\$\(([^)]*)\)", one, word) for word in words]


def test_open_streams_get_their_deadline_and_vllm_its_own_time_before_the_pod_is_killed() -> None:
    pod = pod_of(environment(drain_deadline_seconds=300))
    hook = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert "300" in hook and "drain" in hook
    assert pod["terminationGracePeriodSeconds"] > 300 + DRAIN_SECONDS


def test_a_start_gets_the_time_that_the_yaml_states() -> None:
    deployment = slot_objects(environment(start_timeout_seconds=700), manifest(), "blue", 1)[0]
    probe = deployment["spec"]["template"]["spec"]["containers"][0]["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == 700
    assert deployment["spec"]["progressDeadlineSeconds"] > 700


@pytest.mark.parametrize(
    ("device", "resources", "flag"),
    [("auto", {}, True), ("auto", {"limits": {"nvidia.com/gpu": "1"}}, False), ("cpu", {}, True), ("cuda", {}, False)],
)
def test_auto_is_the_device_of_the_pods_whatever_machine_renders(
    device: str, resources: JsonObject, flag: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.vllm.arguments.device_here", lambda: pytest.fail("asked of this machine"))
    made = manifest(serving=Serving.model_validate({"device": device}))
    server = server_of(environment({"resources": resources}), made)
    assert ("--enforce-eager" in server["command"]) == flag
    void = {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}
    assert (void in server["env"]) == (not resources)


def test_pods_without_the_gpus_that_a_release_needs_are_refused() -> None:
    with pytest.raises(RefusedError, match=r"needs 1 GPU; found placement\.resources\.limits nvidia\.com/gpu: 2"):
        slot_objects(environment({"resources": {"limits": GIB}}), manifest(), "blue", 1)
    two = manifest(serving=Serving(tensor_parallel_size=2, device="cuda"))
    volumes = pod_of(environment({"resources": {"limits": GIB}}), two)["volumes"]
    assert {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}} in volumes


def test_no_pod_may_become_more_than_it_is() -> None:
    pod = pod_of(environment({"node_cache": None}))
    assert pod["automountServiceAccountToken"] is False and pod["securityContext"]["runAsNonRoot"] is True
    for container in [*pod["containers"], *pod["initContainers"]]:
        locked = container["securityContext"]
        assert not locked["allowPrivilegeEscalation"] and locked["readOnlyRootFilesystem"]
        assert locked["capabilities"] == {"drop": ["ALL"]} and "runAsUser" not in locked
    assert not any("hostPath" in volume for volume in pod["volumes"])


def test_a_server_cannot_change_the_bytes_that_a_node_shares() -> None:
    pod = pod_of(environment())
    mounts = {one["mountPath"]: one for one in pod["containers"][0]["volumeMounts"]}
    assert mounts["/cache"]["readOnly"] and mounts["/release"]["readOnly"]
    assert pod["initContainers"][0]["securityContext"]["runAsUser"] == 0 and pod["securityContext"]["runAsUser"] != 0


def test_a_release_is_fetched_by_its_digest() -> None:
    words = pod_of(environment({"bytes": "pvc://claim/some/folder"}))["initContainers"][0]["command"]
    assert words[:3] == ["tunegate", "fetch", f"calls@{DIGEST}"]
    assert words[words.index("--from") + 1] == "/bytes/some/folder"


def test_what_the_yaml_says_of_the_pod_is_merged_into_it() -> None:
    server = {"name": "vllm", "env": [{"name": "OMP_NUM_THREADS", "value": "1"}]}
    more = {"containers": [server], "priorityClassName": "high", "enableServiceLinks": None}
    before, after = pod_of(environment()), pod_of(environment({"pod": more}))
    assert after["priorityClassName"] == "high" and "enableServiceLinks" not in after
    known = before["containers"][0]
    assert after["containers"] == [known | {"env": [*known["env"], *server["env"]]}]
    assert after["volumes"] == before["volumes"]


def test_what_is_changed_in_one_object_changes_no_other() -> None:
    found = slot_objects(environment(), manifest(), "blue", 1)
    kept = copy.deepcopy(found)
    found[0]["metadata"]["labels"]["x"] = found[0]["spec"]["selector"]["matchLabels"]["y"] = "z"
    assert found[1:] == kept[1:] == slot_objects(environment(), manifest(), "blue", 1)[1:]


def test_replicas_that_an_autoscaler_sets_are_not_stated() -> None:
    assert "replicas" not in slot_objects(environment(), manifest(), "blue", None)[0]["spec"]
    assert slot_objects(environment(), manifest(), "blue", 0)[0]["spec"]["replicas"] == 0
