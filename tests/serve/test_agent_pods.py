"""The agent where slots are pods. The API server is a fake; routers, model servers and the agent are processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serve.view.status import status
from tests.serve.conftest import free_ports
from tests.support.agent_scene import digest
from tests.support.cluster_scene import SETTINGS, ClusterScene, cluster_scene
from tests.support.fake_servers import publish_fake
from tests.support.kills import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[ClusterScene]:
    with cluster_scene(tmp_path) as found:
        yield found


def test_a_release_is_switched_to_and_back_and_every_router_answers_from_it(scene: ClusterScene) -> None:
    one, two = publish_fake("one"), publish_fake("two")
    for release in (one, two):
        scene.want(release)
        scene.turn()
        assert scene.answers() == {digest(release)}, scene.said
    assert len(scene.env.router.base_urls) == 2
    scene.env.record.append("desired", release=one, rollback=True)
    scene.turn()
    assert scene.answers() == {digest(one)}
    assert scene.kinds().count("starting") == 2, "a rollback starts nothing"
    seen = status(scene.env)
    assert {slot: one["servers"] for slot, one in seen["slots"].items()} == {
        "blue": {"wanted": 1, "alive": 1},
        "green": {"wanted": 1, "alive": 1},
    }
    assert not {"Bearer", "sesame"} & set(str(scene.cluster.api.things)), "no key is written down"


def test_what_a_hand_changes_comes_back_in_a_turn_and_what_it_deletes_too(scene: ClusterScene) -> None:
    one, two = publish_fake("one"), publish_fake("two")
    for release in (one, two):
        scene.want(release)
        scene.turn()
    things = scene.cluster.api.things
    ours = [key for key, thing in things.items() if key[0] in ("services", "configmaps", "poddisruptionbudgets")]
    assert len(ours) >= 7

    def part_of(key: tuple[str, str]) -> str:
        return str(things[key]["metadata"]["labels"]["tunegate.dev/part"])

    before = {key: part_of(key) for key in ours}
    addresses = {key: things[key]["spec"].get("clusterIP") for key in ours if key[0] == "services"}
    with scene.at_work():
        for key in ours[::2]:
            things[key]["metadata"]["labels"]["tunegate.dev/part"] = "mine"
            things[key]["metadata"]["labels"].pop("app.kubernetes.io/name")
        for key in ours[1::2]:
            scene.cluster.api.delete(*key)

        def are_back() -> bool:
            scene.agent.turn()
            return all(key in things and part_of(key) == part for key, part in before.items())

        wait_until(are_back, 30)
        assert are_back(), scene.said
    assert {key: things[key]["spec"].get("clusterIP") for key in addresses} == addresses
    assert "changed by another hand, put back" in "".join(scene.said)
    assert scene.answers() == {digest(two)}


def test_a_deployment_that_a_hand_deletes_is_a_crash_and_comes_back(
    scene: ClusterScene,
) -> None:
    one, two = publish_fake("one"), publish_fake("two")
    for release in (one, two):
        scene.want(release)
        scene.turn()
    green = next(name for kind, name in scene.cluster.api.things if kind == "deployments" and "green" in name)
    scene.cluster.api.delete("deployments", green)
    wait_until(lambda: scene.turn() or "crashed" in scene.kinds())
    scene.turn(2)
    assert "crashed" in scene.kinds() and scene.answers() == {digest(two)}, scene.said


@pytest.mark.parametrize("mode", ["down", "hang"])
def test_with_the_api_server_away_routers_answer_on_nothing_is_condemned_and_it_goes_on_afterwards(
    scene: ClusterScene, mode: str
) -> None:
    one, two = publish_fake("one"), publish_fake("two")
    scene.want(one)
    scene.turn()
    urls = scene.env.router.base_urls
    with scene.at_work():
        scene.want(two)
        scene.cluster.api.mode = mode  # type: ignore[assignment]
        for _ in range(3):
            scene.agent.turn()
            asked = {httpx.get(f"{url}/health", timeout=5).headers["x-tunegate-release"] for url in urls}
            assert asked == {digest(one)}
        assert not {"refused", "crashed"} & set(scene.kinds()), scene.said
        scene.cluster.api.mode = "up"
        wait_until(lambda: bool(scene.agent.turn()) or scene.answers() == {digest(two)}, 60)
    assert scene.answers() == {digest(two)}, scene.said


def test_a_second_agent_elsewhere_waits_for_the_lease_and_does_nothing(scene: ClusterScene) -> None:
    scene.want(publish_fake("one"))
    scene.turn()
    lease = scene.cluster.api.things["leases", "x-agent"]
    assert lease["spec"]["holderIdentity"] == "", "given back at the end"
    with scene.at_work():
        lease = scene.cluster.api.things["leases", "x-agent"]
        taken = lease["spec"] | {"holderIdentity": "another", "leaseDurationSeconds": 3600}
        scene.cluster.api.put("leases", "x-agent", lease | {"spec": taken})
        assert scene.agent.env.lease
        scene.agent.env.lease.renewed -= 3600  # as after so long without a renewal
        before = len(scene.kinds())
        scene.want(publish_fake("two"))
        scene.agent.turn()
        assert scene.kinds()[before:] in ([], ["desired"])
        assert "the Lease x-agent could not be renewed" in "".join(scene.said)


def test_the_slot_that_serves_has_an_autoscaler_and_its_number_of_pods_is_left_to_that(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    supervision = SETTINGS["supervision"] | {"metrics_port": port}
    with cluster_scene(tmp_path, placed={"scrape_seconds": 0.2, "max_replicas": 2}, supervision=supervision) as scene:
        scene.want(publish_fake("one"))
        scene.turn()
        scene.turn()
        things = scene.cluster.api.things
        wait_until(lambda: any(kind == "scaledobjects" for kind, _ in things))
        ((_, name),) = (key for key in things if key[0] == "scaledobjects")
        assert things["scaledobjects", name]["spec"]["scaleTargetRef"]["name"] == name
        scene.cluster.api.apply("deployments", name, {"spec": {"replicas": 2}})
        with scene.at_work():
            wait_until(lambda: load_at(port) == {"blue": 0, "green": 0})
        scene.turn()
        assert things["deployments", name]["spec"]["replicas"] == 2


def load_at(port: int) -> object:
    """None while nobody listens."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/load", timeout=5).json()
    except httpx.HTTPError:
        return None
