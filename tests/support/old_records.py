"""Records that an earlier version wrote."""

from __future__ import annotations

import json

from tests.paths import ROOT

OLD_RECORD = ROOT / "tests/support/old_world/build/deploy/old/events.jsonl"


def started_line(port: int, pid: int = 1) -> str:
    """As an earlier tunegate recorded a server that it had started; without a seal, as before there were any."""
    facts = {"pid": pid, "create_time": 1795744546.26, "port": port, "log": "blue.log"}
    at = "2026-11-25T19:00:00.000+00:00"
    return json.dumps({"at": at, "kind": "started", "slot": "blue", "facts": facts}, separators=(",", ":")) + "\n"
