"""Order: files that start servers come first, so that the quick ones fill what time is left at the end of two workers.

No example of hypothesis is timed: a slow machine is no defect. Its examples are drawn alike each time, so that a commit
passes or fails wherever it is tested; HYPOTHESIS_PROFILE=search draws others, and more of them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import settings

settings.register_profile("tunegate", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "tunegate"))
HOMES = ("TUNEGATE_STATE_HOME", "TUNEGATE_CACHE_HOME")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    slow: set[Path] = {item.path for item in items if item.get_closest_marker("integration")}
    items.sort(key=lambda item: item.path not in slow)  # stable: the order within a file stays


def pytest_configure() -> None:
    """No test may meet, or leave, an environment's state, or what a command remembers, in the home of its user."""
    for name in HOMES:
        os.environ[name] = tempfile.mkdtemp(prefix="tunegate-")


def pytest_unconfigure() -> None:
    for name in HOMES:
        shutil.rmtree(os.environ[name], ignore_errors=True)


@pytest.fixture(scope="module", autouse=True)
def _environments_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A file's `local` is not the `local` of another."""
    with patch.dict(os.environ, TUNEGATE_STATE_HOME=str(tmp_path_factory.mktemp("state"))):
        yield


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left_for_the_next_file() -> Iterator[None]:
    """A worker's files share one process: a variable that stays set is a server of another kind for a file that never
    heard of it."""
    before = _shared()
    yield
    assert _shared() == before


def _shared() -> dict[str, str]:
    """What children inherit; libraries set variables of their own as they are imported."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("TUNEGATE_") or name in ("PYTHONPATH", "SSL_CERT_FILE", "MAKEFLAGS")
    }
    return ours | {"working directory": os.getcwd()}
