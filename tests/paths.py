"""Where this checkout lies: the one home of ROOT, so that a test may move to another folder."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
