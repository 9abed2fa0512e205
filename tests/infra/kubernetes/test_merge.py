"""A change of a PodSpec, as Kubernetes merges it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.kubernetes.merge import KEYS, merged
from tests.support.cluster_objects import SCHEMAS

pytestmark = pytest.mark.unit
NAMED = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from("abcd"), "value": st.integers()}), unique_by=lambda one: one["name"]
)


@pytest.mark.parametrize(
    ("base", "change", "expected"),
    [
        ({"a": 1, "b": 2}, {"b": 3, "c": 4}, {"a": 1, "b": 3, "c": 4}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": None}}, {"a": {"b": 1}}),
        ({"env": [{"name": "a", "value": "1"}]}, {"env": []}, {"env": [{"name": "a", "value": "1"}]}),
        ({"tolerations": [{"key": "a"}]}, {"tolerations": [{"key": "b"}]}, {"tolerations": [{"key": "b"}]}),
        ({"command": ["a"]}, {"command": ["b"]}, {"command": ["b"]}),
        ({"ports": [{"containerPort": 1, "name": "a"}]}, {"ports": [{"containerPort": 1, "name": "b"}]}, None),
        ({"a": 1}, {"a": {"b": None, "c": 1}}, {"a": {"c": 1}}),
    ],
)
def test_the_change_wins_and_what_it_does_not_name_stays(base: Any, change: Any, expected: Any) -> None:
    assert merged(base, change) == (change if expected is None else expected)


@given(NAMED, NAMED)
def test_lists_with_names_are_merged_by_them(base: list[dict[str, Any]], change: list[dict[str, Any]]) -> None:
    found = merged({"env": base}, {"env": change})["env"]
    wanted = {one["name"]: one for one in [*base, *change]}
    assert {one["name"]: one for one in found} == wanted and len(found) == len(wanted)
    assert [one["name"] for one in found][: len(base)] == [one["name"] for one in base]


@given(NAMED, NAMED)
def test_nothing_that_was_given_is_changed(base: list[dict[str, Any]], change: list[dict[str, Any]]) -> None:
    before = repr((base, change))
    merged({"env": base}, {"env": change})
    assert repr((base, change)) == before


def test_the_keys_are_those_of_kubernetes_own_document() -> None:
    """Of a Pod; `ports` of a Service has another."""
    path = SCHEMAS / "v1.29.0-local-strict/_definitions.json"
    definitions = json.loads(path.read_text(encoding="utf8"))["$defs"]
    found = {
        name: one["x-kubernetes-patch-merge-key"]
        for kind in ("PodSpec", "Container")
        for name, one in definitions[f"io.k8s.api.core.v1.{kind}"]["properties"].items()
        if "x-kubernetes-patch-merge-key" in one
    }
    assert {name: key for name, key in found.items() if name in KEYS} == KEYS
    assert found.keys() - KEYS.keys() <= {"ephemeralContainers", "resourceClaims", "schedulingGates"}
