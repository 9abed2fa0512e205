"""Order: files that start servers come first, so that the quick ones fill what time is left at the end of two workers.

No example of hypothesis is timed: a slow machine is no defect.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("tunegate", deadline=None)
settings.load_profile("tunegate")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    slow: set[Path] = {item.path for item in items if item.get_closest_marker("integration")}
    items.sort(key=lambda item: item.path not in slow)  # stable: the order within a file stays
