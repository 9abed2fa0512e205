"""What a placement may say: what the API server would refuse is refused before."""

from __future__ import annotations

from fractions import Fraction

import pytest
from pydantic import ValidationError

from configs.environment.clashes import clashes
from configs.environment.placement import Resources, amount
from configs.section import JsonObject
from tests.support.cluster_objects import environment

pytestmark = pytest.mark.unit
GPU = "nvidia.com/gpu"


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("500m", Fraction(1, 2)), ("1.5Gi", 1.5 * 2**30), ("2k", 2000), ("1E", 10**18), ("3Ki", 3072)],
)
def test_a_quantity_is_read_as_kubernetes_reads_it(text: str, value: float) -> None:
    assert amount(text) == value


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"requests": {"cpu": "2"}, "limits": {"cpu": "1500m"}}, "requests.cpu of at most limits.cpu"),
        ({"requests": {"memory": "2Gi"}, "limits": {"memory": "2G"}}, "requests.memory of at most"),
        ({"requests": {GPU: "1"}}, f"limits.{GPU} a whole number"),
        ({"limits": {GPU: "500m"}}, f"limits.{GPU} a whole number"),
        ({"requests": {GPU: "1"}, "limits": {GPU: "2"}}, "no other in requests"),
    ],
)
def test_what_no_pod_could_have_is_refused(given: JsonObject, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Resources.model_validate(given)


def test_what_a_pod_can_have_is_taken() -> None:
    Resources.model_validate(
        {"requests": {"cpu": "1", GPU: "1"}, "limits": {"cpu": "1000m", "memory": "1Gi", GPU: "1"}}
    )


def test_an_autoscaler_needs_an_agent_that_says_its_figures() -> None:
    with pytest.raises(ValidationError, match=r"supervision\.metrics_port with placement\.max_replicas"):
        environment({"max_replicas": 3}, supervision={})


def test_a_slot_that_may_be_empty_has_no_old_one_beside_it_that_would_answer() -> None:
    with pytest.raises(ValidationError, match=r"keep_old_slot false with placement\.replicas 0"):
        environment({"replicas": 0, "max_replicas": 3})


def test_pods_take_no_port_of_this_machine() -> None:
    one, two = environment(name="one", state_dir="build/one"), environment(name="two", state_dir="build/two")
    assert clashes(one, [two]) == []
    assert [clash.claim.what for clash in clashes(one, [environment(name="one", state_dir="build/two")])] == ["name"]
