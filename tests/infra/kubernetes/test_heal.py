"""Hand edits are put back; what others add is theirs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.section import JsonObject
from infra.kubernetes.api import Cluster
from infra.kubernetes.heal import Healer, projected
from infra.kubernetes.labels import labels_of
from infra.kubernetes.router_objects import router_objects
from tests.support.fake_cluster import NAMESPACE, FakeApi, api, cluster_config

__all__ = ["api"]
pytestmark = pytest.mark.unit
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, JSON)
def test_what_we_say_is_seen_whatever_others_added(ours: Any, other: Any) -> None:
    assert projected(ours, ours) == ours
    if isinstance(ours, dict):
        added = {f"their {key}": value for key, value in other.items()} if isinstance(other, dict) else {"their": other}
        assert projected(ours | added, ours) == ours


@given(st.dictionaries(st.text(max_size=3), JSON, min_size=1, max_size=4), st.data())
def test_a_changed_field_of_ours_is_seen(ours: JsonObject, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(ours)))
    live = copy.deepcopy(ours)
    live[key] = "changed" if ours[key] != "changed" else "back"
    assert projected(live, ours) != projected(ours, ours)
    del live[key]
    assert ours[key] is None or projected(live, ours) != projected(ours, ours)


EDITS: dict[str, Callable[[JsonObject], object]] = {
    "a value": lambda thing: thing["metadata"]["labels"].update({"tunegate.dev/part": "mine"}),
    "a field": lambda thing: thing["metadata"].pop("labels"),
    "another label": lambda thing: thing["metadata"]["labels"].update({"team": "theirs"}),
}


def test_each_object_of_the_routers_comes_back_whatever_is_done_to_it(api: FakeApi) -> None:
    config = cluster_config()
    wanted = router_objects(config)
    healer = Healer(Cluster(NAMESPACE), labels_of(config))
    assert sorted(healer.heal(wanted)) == sorted(f"{one['kind']}/{one['metadata']['name']}" for one in wanted)
    assert healer.heal(wanted) == []
    before = copy.deepcopy(api.things)
    for key in before:
        for name, edit in EDITS.items():
            edit(api.things[key])
            healed = healer.heal(wanted)
            assert bool(healed) is (name != "another label"), (key, name)
            for label, value in before[key]["metadata"]["labels"].items():
                assert api.things[key]["metadata"]["labels"][label] == value, (key, name)
        api.delete(*key)
        assert len(healer.heal(wanted)) == 1 and key in api.things


def test_nothing_but_lists_is_asked_where_all_is_as_it_was(api: FakeApi) -> None:
    config = cluster_config()
    wanted = router_objects(config)
    healer = Healer(Cluster(NAMESPACE), labels_of(config))
    healer.heal(wanted)
    before = api.asked
    healer.heal(wanted)
    assert api.asked - before == len({one["kind"] for one in wanted})
