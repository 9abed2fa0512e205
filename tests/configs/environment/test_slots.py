"""Which GPUs each server of a slot sees, as a YAML says it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from configs.environment.slots import Slots

pytestmark = pytest.mark.unit
UUID = "GPU-8f6d1f0e-1c1f-4a52-9f0b-8a5f5f3b2a11"


def slots(servers: int, **devices: Any) -> Slots:
    return Slots.model_validate({"servers": servers, "devices": devices})


def test_without_a_list_a_server_sees_them_all() -> None:
    assert Slots().devices_of("green", 0) == []


def test_a_gpu_is_named_by_its_number_or_its_uuid() -> None:
    found = slots(2, blue=[[0, 1], ["2", 3]], green=[[UUID], ["MIG-1234abcd"]])
    assert found.devices_of("blue", 1) == ["2", "3"] and found.devices_of("green", 0) == [UUID]


def test_both_slots_may_share_a_gpu() -> None:
    assert slots(1, blue=[[0]], green=[[0]]).devices_of("green", 0) == ["0"]


@pytest.mark.parametrize(
    ("servers", "blue", "expected"),
    [
        (2, [[0]], "2 lists in devices.blue, one for each server, not 1"),
        (1, [[0], [1]], "1 lists in devices.blue"),
        (1, [[0, 0]], "each GPU once in devices.blue, not 0 twice"),
        (2, [[0], [0]], "each GPU once in devices.blue"),
        (1, [[]], "at least 1"),
        (1, [["0,1"]], "pattern"),
        (1, [["all"]], "pattern"),
        (1, [["0 --trust-remote-code"]], "pattern"),
        (1, [[-1]], "greater than or equal to 0"),
        (1, [[True]], "valid"),
    ],
)
def test_what_names_no_gpu_of_its_own_for_each_server_is_refused(servers: int, blue: Any, expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        slots(servers, blue=blue, green=[[number + 4] for number in range(servers)])
