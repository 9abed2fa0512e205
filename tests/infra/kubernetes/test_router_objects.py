"""The routers' objects: what Kubernetes takes, who reaches whom, and what a router reads of its environment."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.environment.config import DeployConfig
from configs.environment.placement import Kubernetes
from configs.section import JsonObject
from infra.kubernetes.labels import labels_of
from infra.kubernetes.router_objects import router_config, router_objects
from tests.support.cluster_objects import ENVIRONMENTS, VERSIONS, environment, faults

pytestmark = pytest.mark.unit
TLS = {"certificate": "a.pem", "key": "b.pem", "local_port": 8444}


def by_kind(config: DeployConfig) -> dict[str, JsonObject]:
    return {thing["kind"]: thing for thing in router_objects(config)}


def pod_of(config: DeployConfig) -> JsonObject:
    found: JsonObject = by_kind(config)["Deployment"]["spec"]["template"]
    return found


@settings(max_examples=60)
@given(ENVIRONMENTS, st.sampled_from(VERSIONS))
def test_whatever_an_environment_says_is_valid_and_said_twice_the_same(config: DeployConfig, version: str) -> None:
    found = router_objects(config)
    core = [thing for thing in found if thing["kind"] != "HTTPRoute"]
    assert [fault for thing in core for fault in faults(thing, version)] == []
    assert found == router_objects(config.model_copy(deep=True))
    assert all(len(thing["metadata"]["name"]) <= 63 for thing in found)
    assert ("HTTPRoute" in by_kind(config)) == (getattr(config.placement, "route", None) is not None)


@given(ENVIRONMENTS)
def test_a_router_reads_the_environment_that_its_config_map_holds(config: DeployConfig) -> None:
    (text,) = by_kind(config)["ConfigMap"]["data"].values()
    read = DeployConfig.model_validate(yaml.safe_load(text))
    assert read == DeployConfig.model_validate(router_config(config))
    assert (read.name, read.model, read.router.port) == (config.name, config.model, config.router.port)
    assert read.placement.kind == "kubernetes" and read.drain_deadline_seconds == config.drain_deadline_seconds


@pytest.mark.parametrize(
    "more",
    [
        {"release": "calls@sha256:" + "1" * 64},
        {"bake_seconds": 99},
        {"placement": {"resources": {"limits": {"cpu": "2"}}}},
        {"placement": {"image": "other@sha256:" + "2" * 64}},
    ],
)
def test_a_new_pin_or_another_way_to_prove_it_restarts_no_router(more: JsonObject) -> None:
    other = environment(more.get("placement"), **{key: value for key, value in more.items() if key != "placement"})
    assert router_objects(other) == router_objects(environment())


def test_a_router_knows_whether_there_may_be_no_pod_and_room_for_as_many_as_there_may_be() -> None:
    idle = environment({"replicas": 0, "max_replicas": 8}, keep_old_slot=False)
    placed = DeployConfig.model_validate(router_config(idle)).placement
    assert isinstance(placed, Kubernetes) and (placed.replicas, placed.most) == (0, 8)
    placed = DeployConfig.model_validate(router_config(environment({"replicas": 2, "max_replicas": 8}))).placement
    assert isinstance(placed, Kubernetes) and (placed.replicas, placed.most) == (8, 8)


def test_what_a_router_does_read_restarts_it() -> None:
    other = pod_of(environment(router={"max_connections": 100}))
    assert other["metadata"]["annotations"] != pod_of(environment())["metadata"]["annotations"]


def test_only_routers_and_the_agent_reach_a_server_and_only_the_agent_a_routers_admin_port() -> None:
    config = environment(router={"port": 8081})
    policies = [thing for thing in router_objects(config) if thing["kind"] == "NetworkPolicy"]
    server, router = (one["spec"] for one in policies)
    who = [one["podSelector"]["matchLabels"]["tunegate.dev/part"] for one in server["ingress"][0]["from"]]
    assert who == ["router", "agent"] and server["podSelector"]["matchLabels"] == labels_of(config, "server")
    anybody, agent = router["ingress"]
    assert anybody == {"ports": [{"port": 8081, "protocol": "TCP"}]}
    assert agent["ports"][0]["port"] == 8405
    assert agent["from"] == [{"podSelector": {"matchLabels": labels_of(config, "agent")}}]


def test_streams_get_their_deadline_before_a_router_is_killed() -> None:
    assert pod_of(environment(drain_deadline_seconds=300))["spec"]["terminationGracePeriodSeconds"] > 300


def test_certificates_come_from_secrets_wherever_they_lie_on_a_machine() -> None:
    config = environment(router={"tls": TLS})
    assert router_config(config)["router"]["tls"]["certificate"] == "/etc/tunegate/tls.crt"
    volume = next(one for one in pod_of(config)["spec"]["volumes"] if one["name"] == "files")
    assert volume["projected"]["sources"] == [{"secret": {"name": "prod-tls"}}]
    assert all(one["name"] != "files" for one in pod_of(environment())["spec"]["volumes"])


def test_a_low_port_is_opened_by_a_sysctl_and_by_no_capability() -> None:
    spec = pod_of(environment(router={"port": 443}))["spec"]
    assert spec["securityContext"]["sysctls"] == [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]
    assert spec["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "sysctls" not in pod_of(environment())["spec"]["securityContext"]


def test_the_key_and_the_token_are_named_and_never_written() -> None:
    env = pod_of(environment(router={"api_key_env": "OUR_KEY"}))["spec"]["containers"][0]["env"]
    named = {one["name"]: one["valueFrom"] for one in env if "valueFrom" in one}
    assert named["OUR_KEY"] == {"secretKeyRef": {"name": "prod-router", "key": "OUR_KEY"}}
    assert named["TUNEGATE_ROUTER_TOKEN"]["secretKeyRef"]["name"] == "prod-router"


def test_a_gateways_route_goes_to_the_routers_and_has_no_time_out_of_its_own() -> None:
    route = {"gateway": "edge/public", "hostnames": ["llm.example.com"]}
    spec = by_kind(environment({"route": route}))["HTTPRoute"]["spec"]
    assert spec["parentRefs"] == [{"name": "public", "namespace": "edge"}] and spec["hostnames"] == ["llm.example.com"]
    assert spec["rules"] == [{"backendRefs": [{"name": "prod-router", "port": 8080}], "timeouts": {"request": "0s"}}]
