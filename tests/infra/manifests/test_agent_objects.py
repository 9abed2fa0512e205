"""The agent's objects, its rights and those of the routers, and a slot's autoscaler."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.environment.config import DeployConfig
from configs.errors import InputError
from configs.run.serving import Serving
from configs.section import JsonObject
from infra.kubernetes.autoscaling import scaled_object
from infra.manifests.access import access_objects
from infra.manifests.agent_objects import CLONE, CREDENTIALS, GIT, Source, agent_objects
from infra.router_pods.told import told_name
from tests.support.cluster_objects import ENVIRONMENTS, VERSIONS, environment, faults, manifest

pytestmark = pytest.mark.unit
SOURCE = Source("git@git.example:ml/models.git")
SOURCES = st.builds(
    Source, st.sampled_from(["https://git.example/$(HOME)/x.git", SOURCE.repository]), signed=st.booleans()
)


@settings(max_examples=60)
@given(ENVIRONMENTS, SOURCES, st.sampled_from(VERSIONS))
def test_whatever_an_environment_says_is_valid_and_said_twice_the_same(
    config: DeployConfig, source: Source, version: str
) -> None:
    found = [*agent_objects(config, source), *access_objects(config)]
    assert [fault for thing in found for fault in faults(thing, version)] == []
    assert found == [*agent_objects(config, source), *access_objects(config)]
    assert all(len(thing["metadata"]["name"]) <= 63 for thing in found)


def container_of(config: DeployConfig, source: Source = SOURCE) -> JsonObject:
    found: JsonObject = agent_objects(config, source)[0]["spec"]["template"]["spec"]["containers"][0]
    return found


def test_there_is_one_agent_and_never_two_for_a_moment() -> None:
    spec = agent_objects(environment(), SOURCE)[0]["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_the_agent_follows_the_branch_by_the_keys_that_may_sign() -> None:
    words = container_of(environment(), Source("https://x", "release", signed=True))["command"]
    assert words == ["tunegate", "agent", "prod", "--pull", "origin/release", "--signers", f"{GIT}/allowed_signers"]
    assert "--signers" not in container_of(environment())["command"]


@pytest.mark.parametrize("address", ["https://ann:word@git.example/x.git", "https://:token@git.example/x"])
def test_a_password_in_the_repositorys_address_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="holds a password"):
        Source(address)
    assert Source("ssh://git@git.example/x.git") and Source("git@git.example:ml/x.git")


def test_a_clone_that_was_killed_is_made_anew_and_one_that_is_there_stays(tmp_path: Path) -> None:
    origin, kept = tmp_path / "origin", tmp_path / "kept"
    subprocess.run(["git", "init", "-q", "-b", "main", origin], check=True)
    words = ["-c", "user.name=a", "-c", "user.email=b", "commit", "-q", "--allow-empty", "-m", "c"]
    subprocess.run(["git", "-C", origin, *words], check=True)
    (kept / "checkout.new").mkdir(parents=True)
    known = {"KEPT": str(kept), "REPOSITORY": str(origin), "BRANCH": "main", "PATH": "/usr/bin:/bin"}
    for _ in range(2):
        subprocess.run(["sh", "-c", CLONE], env=known, check=True)
        assert [path.name for path in kept.iterdir()] == ["checkout"]
        (kept / "checkout/mine").touch()
    assert (kept / "checkout/.git").is_dir()


def test_git_reads_the_password_from_the_secrets_file(tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text("username=bot\npassword=word\n")
    helper = CREDENTIALS.replace(GIT, str(tmp_path))
    asked = "protocol=https\nhost=git.example\n\n"
    run = subprocess.run(
        ["git", "-c", "credential.helper=", "-c", f"credential.helper={helper}", "credential", "fill"],
        input=asked,
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "GIT_TERMINAL_PROMPT": "0"},
    )
    assert "username=bot\npassword=word\n" in run.stdout


@pytest.mark.parametrize("part", ["agent", "router"])
def test_of_secrets_only_the_one_that_tells_routers_is_theirs_and_no_rights_are(part: str) -> None:
    (role,) = (
        one for one in access_objects(environment()) if one["kind"] == "Role" and part in one["metadata"]["name"]
    )
    rules = {what: rule for rule in role["rules"] for what in rule["resources"]}
    assert rules["secrets"]["resourceNames"] == [told_name(environment())]
    assert "list" not in rules["secrets"]["verbs"] and "watch" not in rules["secrets"]["verbs"]
    assert not rules.keys() & {"roles", "rolebindings", "serviceaccounts", "scaledobjects", "httproutes", "*"}
    assert "*" not in str(role["rules"])


def test_a_router_changes_nothing() -> None:
    (role,) = (
        one for one in access_objects(environment()) if one["metadata"]["name"] == "prod-router" and "rules" in one
    )
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} <= {"get", "list", "watch"}


def test_optional_engines_are_granted_where_they_are_used() -> None:
    config = environment({"max_replicas": 4, "route": {"gateway": "public"}})
    agent = next(thing for thing in access_objects(config) if thing["kind"] == "Role")
    groups = {group for rule in agent["rules"] for group in rule["apiGroups"]}
    assert {"keda.sh", "gateway.networking.k8s.io"} <= groups


def test_a_slot_grows_by_what_is_open_at_the_routers_from_zero_on() -> None:
    config = environment({"replicas": 0, "max_replicas": 8}, keep_old_slot=False)
    found = scaled_object(config, manifest(serving=Serving(max_num_seqs=32)), "green")
    spec = found["spec"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (0, 8)
    assert spec["scaleTargetRef"]["name"] == "prod-green-0123456789"
    asked = spec["triggers"][0]["metadata"]
    assert asked["url"] == "http://prod-agent.ml.svc:9464/load" and asked["valueLocation"] == "green"
    assert asked["targetValue"] == "24" and "fallback" not in spec


def test_nothing_secret_stands_in_an_object() -> None:
    text = json.dumps([*agent_objects(environment(), SOURCE), *access_objects(environment())])
    assert 'kind": "Secret"' not in text and "stringData" not in text
