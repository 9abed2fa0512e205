"""The agent where slots are pods. The API server is a fake; routers, model servers and the agent are processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.view.status import status
from tests.support.agent_scene import digest
from tests.support.cluster_scene import ClusterScene, cluster_scene
from tests.support.fake_servers import publish_fake

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
