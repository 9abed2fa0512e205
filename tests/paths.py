"""Where this checkout lies: the one home of ROOT, so that a test may move to another folder."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = f"lib/python3.{sys.version_info.minor}/site-packages"  # of an environment of the Python that runs the tests
