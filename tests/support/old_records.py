"""Records that an earlier version wrote."""

from __future__ import annotations

from tests.paths import ROOT

OLD_RECORD = ROOT / "tests/support/old_world/build/deploy/old/events.jsonl"
