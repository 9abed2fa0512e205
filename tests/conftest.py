"""Order: files that start servers come first, so that the quick ones fill what time is left at the end of two workers."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    slow: set[Path] = {item.path for item in items if item.get_closest_marker("integration")}
    items.sort(key=lambda item: item.path not in slow)  # stable: the order within a file stays
